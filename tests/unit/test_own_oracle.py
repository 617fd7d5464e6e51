"""A source model of the user's own that only answers: bb-uda with --source-model."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from dabench.cli.main import main
from dabench.cli.serve import load_source_model
from dabench.config.command import run_command
from dabench.config.settings import read_settings
from dabench.config.spec import resolve
from dabench.contract.data import DataRequest
from dabench.oracle.answer_forms import AnswerForm
from dabench.oracle.sealed_child import SealedRequest, _answerer
from dabench.source_models.foreign import ForeignModel
from dabench.source_models.recipes import source_recipe

IN_PROCESS = ("--protocol.oracle", "in-process")


def test_the_oracle_is_the_users_model_and_the_network_the_methods_own(place: Any) -> None:
    record = place.run(*IN_PROCESS, "--protocol.held_out", "0")
    with torch.no_grad():
        found = place.model(place.images()).argmax(1).numpy()
    (accuracy,) = [s["value"] for s in record["scores"] if s["metric"] == "accuracy"]
    assert accuracy == pytest.approx((found == np.repeat(np.arange(3), 6)).mean())
    spec = record["spec"]
    assert (spec["source_model"], spec["backbone"]) == ("net.py:build", "small-cnn")
    assert (spec["weights"], spec["source_epochs"]) == ("none", 0)
    assert record["source_model"]["foreign"] == "net.py:build"
    assert record["source_model"]["val_accuracy"] is None
    learned = place.run(*IN_PROCESS, method="pseudo-label", freeze=1)
    assert learned["ids"]["source"] == record["ids"]["source"]
    assert learned["cost"]["oracle_queries"] > 0
    assert learned["cost"]["images_backward"] > 0


def test_sealed_and_served_ones_give_the_same_bits(place: Any) -> None:
    (spec,) = resolve(place.given(method="source"))
    settings = read_settings(place.given())
    served = load_source_model(spec, settings)
    request = SealedRequest(
        dataset=spec.dataset,
        data=DataRequest("a", "b", 32, settings.data_root, settings.cache_dir),
        protocol=spec.protocol,
        protocol_options=spec.protocol_options,
        recipe=source_recipe(spec, black_box=True),
        batch_size=6,
        plan_seed=0,
        source_seed=0,
        device="cpu",
        threads=1,
        form=AnswerForm("soft"),
        progress=False,
        foreign=ForeignModel.of_spec(spec),
    )
    sealed = _answerer(pickle.loads(pickle.dumps(request)))  # what crosses the border
    assert sealed.info == served.info
    pictures = (place.images() * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(sealed.answer(pictures), served.answer(pictures))
    with torch.no_grad():
        expected = place.model(place.images()).softmax(1).numpy()
    np.testing.assert_allclose(sealed.answer(pictures), expected, atol=1e-6)


@pytest.mark.slow
def test_a_sealed_run_is_the_one_in_this_process(place: Any) -> None:
    sealed, here = place.run(), place.run(*IN_PROCESS)
    assert sealed["ids"] == here["ids"]
    assert sealed["scores"] == here["scores"]


def test_the_command_of_a_run_names_both_networks(place: Any) -> None:
    words = run_command(resolve(place.given(method="dine"))[0])
    for part in (f"--source-model {place.root / 'net.py'}:build", "--backbone small-cnn"):
        assert part in words
    assert "--source-epochs" not in words


def test_what_does_not_fit_is_one_line(place: Any) -> None:
    def error(*more: str, **named: Any) -> str:
        assert main(place.words(*more, **named)) == 2
        (line,) = place.capsys.readouterr().err.splitlines()
        return line

    assert "--source-epochs: --source-model is there already" in error(source_epochs=3)
    http = error("--protocol.oracle", "http", "--oracle-url", "http://127.0.0.1:9")
    assert "give it to 'dabench serve-source', and leave it out here" in http
    assert "this backbone has" in error(*IN_PROCESS, method="pseudo-label", freeze=99)
    assert "no such file" in error(*IN_PROCESS, weights="gone.pt")
