import csv
import json

import numpy as np
import pytest

import scorefield as sf
from scorefield.data import open_data

QUICK = {"data": "example:mnist", "n": 3, "tol": 0.01}


def test_the_numbers_are_those_of_python_with_both_standard_errors(cli, here):
    told = json.loads(cli("likelihood", "grey", "--resize", "--json", probes=3, seed=5, **QUICK).out)
    x = open_data("example:mnist", channels=1, size=8, resize=True).tensor()[:3]
    r = sf.log_likelihood(sf.load("./grey"), x, probes=3, seed=5, tol=0.01)
    assert told["bits_per_dim"] == pytest.approx(float(r.bits_per_dim.mean()), rel=1e-5)
    assert told["bits_per_dim_error_data"] == pytest.approx(float(r.bits_per_dim.std()) / 3**0.5, rel=1e-5)
    assert told["bits_per_dim_error_probes"] == pytest.approx(float(r.bits_per_dim_error.norm()) / 3, rel=1e-5)
    assert told["log_prob_error_probes"] == pytest.approx(float(r.standard_error.norm()) / 3, rel=1e-5)
    assert told["nfe"] == r.nfe
    assert told["nfe_backward"] == r.nfe_backward


def test_the_table_says_what_each_error_is_over(cli, here):
    shown = cli("likelihood", "grey", "--resize", probes=2, **QUICK).out
    assert "bits/dim" in shown
    assert "± over 3 data" in shown
    assert "± over 2 probes" in shown
    assert "unknown" in cli("likelihood", "grey", "--resize", **QUICK).out


def test_a_file_has_a_row_for_each_datum(cli, here):
    for out in ("a.json", "a.csv", "a.npz"):
        assert cli("likelihood", "grey", "--resize", out=out, **QUICK).status == 0
    rows = json.loads((here / "a.json").read_text())
    with (here / "a.csv").open() as file:
        table = list(csv.DictReader(file))
    arrays = np.load("a.npz")
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert rows[0]["standard_error"] is None  # a single probe
    for i, row in enumerate(rows):
        parts = ("prior", "divergence", "volume", "units", "quantization")
        assert row["log_prob"] == pytest.approx(sum(row[part] for part in parts), rel=1e-5)
        assert float(table[i]["bits_per_dim"]) == pytest.approx(row["bits_per_dim"])
        assert float(arrays["bits_per_dim"][i]) == pytest.approx(row["bits_per_dim"])
    assert "expected .json, .csv or .npz" in cli("likelihood", "grey", "--resize", out="a.png", **QUICK).error


def test_float_data_have_a_density_and_an_exact_trace_no_error(cli, here):
    np.save("points.npy", np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32))
    told = json.loads(cli("likelihood", "vectors", "--exact", "--json", data="points.npy", tol=1e-3).out)
    assert "bits_per_dim" not in told
    assert told["n"] == 4
    assert told["log_prob_error_probes"] == 0
    assert told["probes"] is None
