"""Folders of many samples: any number of processes, interrupted anywhere, give the same bytes."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny import tiny_model

import scorefield as sf
from scorefield.cli import progress, sampling
from scorefield.cli.processes import ProcessError, Processes
from scorefield.data import Shards, open_data, to_uint8

DYING = Path(__file__).parent / "dying.py"
LEAVING = Path(__file__).parent / "leaving.py"
ALONE = "threads of a group of processes left: 0\n"
QUICK = {"batch_size": 2, "steps": 3, "sampler": "ancestral"}


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def program(*arguments, **more):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment(**more)
    )


def two_processes(*arguments):
    """The (status, out, err) of each of two processes that no launcher watches."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    running = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**shared, RANK=rank, LOCAL_RANK=rank),
        )
        for rank in "01"
    ]
    told = [process.communicate(timeout=120) for process in running]
    return [(process.returncode, *words) for process, words in zip(running, told, strict=True)]


def options(**changes):
    return [part for name, value in {**QUICK, **changes}.items() for part in (f"--{name.replace('_', '-')}", value)]


@pytest.fixture
def one_thread():
    """Processes that a launcher starts compute in one thread, on which the last bit depends."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_of_which_one_is_killed_end_with_the_bytes_of_one_process(cli, here):
    assert cli("sample", "grey", n=11, out="one", **QUICK).status == 0
    command = ["sample", "grey", "-n", "11", "--out", "two", *options()]
    (status, out, err), (killed, *_) = two_processes(DYING, 5, 1, *command)
    assert (status, killed, out) == (2, -signal.SIGKILL, "")
    done = len(list(Path("two").glob("*.png"))) // 2 * 2
    assert 0 < done < 11
    assert "error: another of the processes has ended" in err
    assert f"{done} of 11 samples are in two: give the same command to go on" in err

    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    resumed = program(*launcher, "-m", "scorefield", *command, "--json")
    assert resumed.returncode == 0, resumed.stderr
    told = json.loads(resumed.stdout)
    assert (told["n"], told["resumed"], told["processes"], told["nfe"]) == (11, done, 2, 4)
    assert content("two") == content("one")

    first, second = two_processes(LEAVING, *command, "--seed", "1")
    refused = "error: two holds samples of seed 0; seed 1 given: give the same to go on, or another folder\n"
    assert first == (2, "", refused + ALONE)
    assert second == (2, "", ALONE)
    assert content("two") == content("one")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("model", "moments"), [("grey", 11), ("vectors", 9)])
def test_killed_at_any_moment_it_ends_with_the_bytes_of_an_undisturbed_run(cli, here, model, moments):
    assert cli("sample", model, n=3, out="whole", **QUICK).status == 0
    died = program(DYING, moments, "sample", model, "--n", 3, *options())
    assert died.returncode == 0, died.stderr
    assert died.stdout.splitlines()[-1] == f"{moments} {moments}"
    for folder in Path("killed").iterdir():
        assert content(folder) == content("whole"), folder


@pytest.mark.parametrize("classifier", [False, True])
def test_of_two_processes_that_train_one_speaks(here, classifier):
    numbers = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    np.savez("table.npz", samples=numbers, labels=np.arange(16) % 2)
    small = ["--data", "table.npz", "--out", "run", "--steps", "2", "--batch-size", "4", "model.width=8", "--json"]
    command = ["train-classifier", "vectors"] if classifier else ["train", "table", "data.shape=[2]"]
    first, second = two_processes(LEAVING, *command, *small)
    assert json.loads(first[1])["steps"] == 2
    assert first[2].endswith(ALONE)
    assert second == (0, "", ALONE)


def test_processes_that_do_not_find_one_another_are_one_line(here):
    alone = program("-m", "scorefield", "sample", "grey", "--out", "a", WORLD_SIZE="2")
    assert alone.returncode == 2
    assert alone.stderr.splitlines()[-1].startswith("error: WORLD_SIZE is 2, but these processes do not find")
    assert "Traceback" not in alone.stderr


def test_an_interrupted_folder_goes_on(cli, here, monkeypatch):
    real, drawn = sf.sample, []

    def third_fails(*arguments, **options):
        drawn.append(options["first"])
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    assert cli("sample", "grey", n=7, out="whole", **QUICK).status == 0
    monkeypatch.setattr(sf, "sample", third_fails)
    outcome = cli("sample", "grey", n=7, out="a", **QUICK)
    assert outcome.status == 130
    assert outcome.err == "error: interrupted; 4 of 7 samples are in a: give the same command to go on\n"
    assert len(list(Path("a").glob("*.png"))) == 4
    Path("a/.scorefield-0123456789ab.tmp").mkdir()
    Path("a/.scorefield-ba9876543210.tmp").touch()
    again = cli("sample", "grey", n=7, out="a", **QUICK)
    assert again.out.startswith("7 samples of seed 0 in a, 4 of them from before\n4 network evaluations each")
    assert drawn == [0, 2, 4, 4, 6]
    assert content("a") == content("whole")


def test_a_finished_folder_is_left_alone(cli, here, monkeypatch):
    assert cli("sample", "grey", n=3, out="a", **QUICK).status == 0
    before = {path: path.stat().st_mtime_ns for path in Path("a").iterdir()}
    monkeypatch.setattr(sf, "sample", lambda *_, **__: pytest.fail("sampled"))
    assert cli("sample", "grey", n=3, out="a", **QUICK).out == "a has all 3 samples: nothing to do\n"
    told = json.loads(cli("sample", "grey", "--json", n=3, out="a", **QUICK).out)
    assert (told["n"], told["resumed"], told["nfe"]) == (3, 3, None)
    assert {path: path.stat().st_mtime_ns for path in Path("a").iterdir()} == before


@pytest.mark.parametrize("model", ["grey", "vectors"])
def test_more_samples_are_added_as_if_all_had_been_asked_for_at_once(cli, here, model):
    assert cli("sample", model, n=7, out="whole", **QUICK).status == 0
    for n in (3, 5, 7):
        assert cli("sample", model, n=n, out="a", **QUICK).status == 0
    assert content("a") == content("whole")
    assert "7 samples, 5 were asked for: ask for 7 or more" in cli("sample", model, n=5, out="a", **QUICK).error
    assert content("a") == content("whole")


@pytest.mark.parametrize(
    ("change", "there", "given"),
    [
        ({"seed": 1}, "seed 0", "seed 1"),
        ({"steps": 4}, "steps 3", "steps 4"),
        ({"batch_size": 3}, "batch size 2", "batch size 3"),
        ({"sampler": "ddim"}, "sampler Ancestral(variance='posterior')", "sampler DDIM(eta=0.0)"),
        ({"grid": "uniform"}, "grid logsnr", "grid uniform"),
        ({"label": 2}, "label none", "label 2"),
        ({"precision": "bf16"}, "precision fp32", "precision bf16"),
        ({"corrector": "langevin", "snr": 0.2}, "sampler Ancestral", "Langevin(snr=0.2"),
    ],
)
def test_a_folder_holds_samples_of_one_command(cli, here, change, there, given):
    assert cli("sample", "classes", n=3, out="a", **QUICK).status == 0
    before = content("a")
    error = cli("sample", "classes", n=5, out="a", **{**QUICK, **change}).error
    was, now = error.split(";")
    assert was.startswith("a holds samples of ")
    assert there in was
    assert given in now
    assert error.endswith("given: give the same to go on, or another folder")
    assert content("a") == before


def test_a_folder_holds_samples_of_one_model(cli, here):
    assert cli("sample", "grey", n=3, out="a", **QUICK).status == 0
    Path("grey").rename("moved")
    assert "nothing to do" in cli("sample", "moved", n=3, out="a", **QUICK).out
    tiny_model(here / "wider", (1, 8, 8), "model.multipliers=[1,1]")
    tiny_model(here / "tall", (1, 8, 8), "sde.beta_max=19")
    for other in ("wider", "tall"):
        assert "a holds samples of weights " in cli("sample", other, n=3, out="a", **QUICK).error


def test_other_data_are_a_file_for_each_batch(cli, here):
    assert cli("sample", "vectors", n=5, seed=7, out="a", **QUICK).status == 0
    assert sorted(content("a")) == ["00000000.npz", "00000002.npz", "00000004.npz", "sampling.json"]
    shards = [np.load(path) for path in sorted(Path("a").glob("*.npz"))]
    assert [shard["indices"].tolist() for shard in shards] == [[0, 1], [2, 3], [4]]
    assert {int(shard["seed"]) for shard in shards} == {7}
    expected = sf.sample(sf.load("./vectors"), 5, seed=7, sampler=sf.Ancestral(), steps=3).numpy()
    assert np.abs(np.concatenate([shard["samples"] for shard in shards]) - expected).max() < 1e-5


def test_images_are_the_samples_of_python_and_data_again(cli, here):
    assert cli("sample", "colour", n=5, out="a", **QUICK).status == 0
    images = open_data("a")
    expected = to_uint8(sf.sample(sf.load("./colour"), 5, sampler=sf.Ancestral(), steps=3))
    assert images.shape == (3, 8, 8)
    assert (images.tensor().int() - expected.int()).abs().max() <= 1


def test_the_flow_fills_a_folder_too(cli, here):
    told = json.loads(cli("sample", "grey", "--json", n=3, out="a", batch_size=2, sampler="ode", tol=0.5).out)
    assert (told["steps"], told["grid"]) == (None, None)
    assert len(content("a")) == 4
    assert "tol=0.1" in cli("sample", "grey", n=3, out="a", batch_size=2, sampler="ode", tol=0.1).error


def test_a_way_that_was_not_seen_is_walked_again(cli, here):
    assert cli("sample", "grey", n=5, out="a", **QUICK).status == 0
    before = content("a")
    told = json.loads(cli("sample", "grey", "--json", n=5, out="a", trajectory="way.png", **QUICK).out)
    assert told["resumed"] == 3
    assert Path("way.png").is_file()
    assert "nothing to do" in cli("sample", "grey", n=5, out="a", trajectory="way.png", **QUICK).out
    assert content("a") == before


def test_the_pace_leaves_out_what_was_there_before(cli, here, monkeypatch):
    shown, paces = io.StringIO(), []

    def seen(made, left, seconds):
        paces.append((made, left))
        return ""

    assert cli("sample", "grey", n=4, out="a", **QUICK).status == 0
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=shown, force_terminal=True, width=120))
    monkeypatch.setattr(progress, "pace", seen)
    assert cli("sample", "grey", n=9, out="a", **QUICK).status == 0
    assert {made + left for made, left in paces} == {5}
    assert (paces[0][0], paces[-1][0]) == (0, 5)
    assert "4/9" in shown.getvalue()
    assert "9/9" in shown.getvalue()


def test_the_bar_counts_what_other_processes_have_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "_LOOK_SECONDS", -1)
    shards = Shards(tmp_path, n=7, batch_size=2, seed=0, shape=(1, 8, 8))
    first, second, third, last = shards.parts
    others = sampling._Others(shards, [[second], [third, last]])
    assert others.made() == 0
    for part, made in ((first, 0), (last, 0), (second, 2), (third, 5)):
        shards.write(part, torch.zeros(len(part), 1, 8, 8))
        assert others.made() == made


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "choose another name"),
        ("{}", "damaged"),
        ('{"n": 3', "damaged"),
        ('{"format": 9, "n": 3}', "has format 9"),
    ],
)
def test_a_folder_of_other_things_is_refused(cli, here, manifest, words):
    Path("a").mkdir()
    Path("a/00000000.png").touch()
    if manifest is not None:
        Path("a/sampling.json").write_text(manifest)
    before = content("a")
    error = cli("sample", "grey", n=3, out="a", **QUICK).error
    assert error.startswith("a")
    assert words in error
    assert content("a") == before


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    second = Processes(rank=3, world=4, local=1)
    assert second.device("auto") == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert second.device("auto") == second.device("cuda") == "cuda:1"
    assert second.device("cuda:0") == "cuda:0"
    assert second.device("cpu") == "cpu"
    assert Processes().device("auto") == "auto"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ProcessError, match="process 2 on a machine with 1 GPUs"):
        second.device("auto")
