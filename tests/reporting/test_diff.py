from dataclasses import replace

from benchsuite.records.record import Times
from benchsuite.reporting.diff import differences
from tests.reporting.factory import ENVIRONMENT, MEANS, drawn, grid, record, results

THREE = ["gptq_default", "random", "cola_zero"]


def made(means=MEANS, rng_seed=0, **options):
    cells = grid("llama2_7b", methods=THREE)
    return results(cells, drawn(cells, means=means, rng_seed=rng_seed, **options))


def worse(found):
    return [str(difference) for difference in found if difference.worse]


def test_the_same_records_differ_in_nothing():
    (only,) = differences([made()], [made()])

    assert str(only) == "cells: 15 bit-identical, 0 changed"


def test_other_seeds_noise_is_told_and_not_worse():
    # So little scatter that every claim about it holds over any seeds.
    found = differences([made(std=0.01)], [made(std=0.01, rng_seed=5)])

    assert worse(found) == []
    assert any("random perplexity" in str(d) and "within seed noise" in str(d) for d in found)


def test_a_higher_perplexity_beyond_noise_is_worse_and_a_lower_one_is_not():
    up = differences([made()], [made(means=MEANS | {"random": 6.5}, rng_seed=1)])
    down = differences([made()], [made(means=MEANS | {"random": 5.0}, rng_seed=1)])

    assert any("/random perplexity: " in text for text in worse(up))
    assert not any("/random perplexity" in text for text in worse(down))
    assert any("/random perplexity" in str(d) and "beyond" in str(d) for d in down)


def test_a_claim_that_held_and_does_not_is_worse():
    clear = MEANS | {"cola_zero": 5.0}
    found = differences([made(means=clear)], [made(means=clear | {"cola_zero": 6.9}, rng_seed=1)])

    assert any("held before, violated now" in text for text in worse(found))


def test_a_claim_that_was_open_and_is_violated_is_worse_and_the_other_way_round_is_not():
    opened, violated = made(std=1.0), made(means=MEANS | {"cola_zero": 6.9}, rng_seed=1)

    assert any(
        "inconclusive before, violated now" in t for t in worse(differences([opened], [violated]))
    )
    back = differences([violated], [opened])
    assert any("violated before, inconclusive now" in str(d) for d in back)
    assert not any("violated before" in text for text in worse(back))


def test_decided_claims_that_the_new_records_lack_cells_of_are_told_and_not_worse():
    clear = MEANS | {"cola_zero": 5.0}
    old, cells = made(means=clear), grid("llama2_7b", methods=THREE)
    fewer = {k: r for k, r in old.records.items() if r.cell.method != "cola_zero"}

    found = differences([old], [results(cells, fewer)])
    gone = differences([old], [])

    (told,) = (str(d) for d in found if "not run now" in str(d))
    (vanished,) = (str(d) for d in gone if "held before, not there now" in str(d))
    assert "held before, not run now: " in told
    assert "cola_zero has lower perplexity than random" in told
    assert "cola_zero has lower perplexity than random" in vanished
    assert worse(found) == worse(gone) == []
    assert not any("not run" in str(d) for d in differences([results(cells, fewer)], [old]))


def test_cells_that_one_side_alone_has_are_counted():
    cells = grid("llama2_7b", methods=["random"])
    old = drawn(cells)
    new = {cell.id: old[cell.id] for cell in cells[1:]}

    (first, *_) = differences([results(cells, old)], [results(cells, new)])
    (last, *_) = differences([results(cells, new)], [results(cells, old)])

    assert str(first) == "cells: 4 bit-identical, 0 changed, 1 only in the old ones"
    assert str(last) == "cells: 4 bit-identical, 0 changed, 1 only in the new ones"


def test_one_seed_that_leaves_its_arm_is_named():
    cells = grid("llama2_7b", methods=["random"])
    old = drawn(cells)
    off = {**old, cells[2].id: record(cells[2], 9.9)}

    found = differences([results(cells, old)], [results(cells, off)])

    assert any("random seed 44 perplexity" in text for text in worse(found))


def test_a_cell_that_fails_now_is_worse():
    cells = grid("llama2_7b", methods=["random"])
    kept = drawn(cells)
    del kept[cells[0].id]
    lost = record(cells[0], failure=("quant", "out of memory"))

    found = differences([results(cells)], [results(cells, kept, failed={cells[0].id: lost})])

    assert any("failed now: out of memory" in text for text in worse(found))


def test_a_cell_that_fails_under_other_settings_passed_never_before():
    cells = grid("llama2_7b", methods=["random"])
    other = grid("llama2_7b", methods=["random"], settings={"quant_bits": 3})
    before = results(cells, drawn(cells))
    failed = {other[0].id: record(other[0], failure=("quant", "out of memory"))}
    now = [results(cells, drawn(cells)), results(other, {}, failed=failed)]
    assert worse(differences([before], now)) == []
    assert worse(differences([before, results(other, drawn(other))], now)) != []


def test_timings_are_compared_on_one_device_and_refused_across_two():
    def timed(seconds, **environment):
        def change(cell):
            facts = ENVIRONMENT | environment
            return {"times": Times({"quant": seconds + cell.seed / 100}), "environment": facts}

        return made(change=change)

    same = differences([timed(20.0)], [timed(30.0)])
    across = differences([timed(20.0)], [timed(30.0, device="Xeon", device_kind="cpu")])

    assert any("quant_time_sec: 20.4 s before, 30.4 s now: beyond" in str(d) for d in same)
    refused = [str(d) for d in across if d.subject == "timings"]
    assert refused == ["timings: of 3 methods not compared: cuda: NVIDIA H200 against cpu: Xeon"]
    assert not any("quant_time_sec" in str(d) for d in across)
    assert worse(same) == worse(across) == []


def test_a_time_that_cells_share_was_measured_once():
    """One value in every seed's record has no noise of seeds: it tells of one moment."""

    def timed(shared, noise=0.0):
        def change(cell):
            own = 5 + cell.seed / 100 + noise
            parts = {"selection": shared + own, "selection_shared": shared}
            return {"times": Times({"quant": own}, {**parts, "selection_spent": 99.0 * noise})}

        return made(change=change)

    found = differences([timed(40.0)], [timed(30.0)])
    slower = differences([timed(40.0)], [timed(40.0, noise=5.0)])

    assert not [str(d) for d in found if "time_sec" in str(d)]
    told = [str(d) for d in slower if "time_sec" in str(d)]
    assert any("selection_time_sec but for what is shared: 5.4" in text for text in told)
    assert not any("spent" in text for text in told)


def test_contended_timings_are_refused():
    busy = made(change=lambda c: {"times": Times({"quant": 99.0}, contended=True)})

    found = differences([made()], [busy])

    assert any("contended" in str(d) for d in found if d.subject == "timings")


def test_a_study_that_wishes_higher_values_turns_what_is_worse():
    old, new = made(), made(means=MEANS | {"random": 5.0}, rng_seed=1)
    for one in (old, new):
        higher = replace(one.study.ranked_by, better="higher")
        one.study = replace(one.study, metrics=(higher,))

    assert any("/random perplexity" in text for text in worse(differences([old], [new])))


def test_other_weights_under_one_name_are_not_compared():
    def of(digest, means=MEANS):
        found = made(means)
        found.records = {
            i: replace(r, source=replace(r.source, weights_digest=digest))
            for i, r in found.records.items()
        }
        return found

    told = differences([of("1" * 64)], [of("2" * 64, MEANS | {"random": 9.0})])

    assert [str(one) for one in told] == [
        "cells: 0 bit-identical, 0 changed",
        "calibration_selection/llama-2-7b-hf: other weights now than before: nothing is compared",
    ]


def test_a_given_checkpoint_does_not_take_the_place_of_what_the_study_made():
    given = made(MEANS | {"random": 9.0})
    given.weights = "checkpoint"

    (only,) = differences([made(), given], [made(), given])

    assert str(only) == "cells: 30 bit-identical, 0 changed"


def test_a_constant_arm_is_worse_from_its_margin_on():
    def moved(by):
        return differences([made(std=0.01)], [made(MEANS | {"gptq_default": 5.80 + by}, std=0.01)])

    small, large = moved(1e-9), moved(0.1)  # the margin is half a percent

    (told,) = [str(one) for one in small if "gptq_default perplexity" in str(one)]
    assert told.endswith("did not vary over seeds before; too small to matter")
    assert worse(small) == []
    assert any("gptq_default perplexity: 5.8000 ± 0 before" in told for told in worse(large))


def test_a_method_that_stands_in_several_settings_is_compared_once():
    def both(rng_seed):
        made = []
        for settings in ({}, {"scoring_model": "qwen3_0_6b"}):
            cells = grid("llama2_7b", methods=["random", "cola_zero"], settings=settings)
            made.append(results(cells, drawn(cells, rng_seed=rng_seed, means=MOVED[rng_seed])))
        return made

    found = [str(d) for d in differences(both(0), both(1))]
    assert "cells: 0 bit-identical, 15 changed" in found
    arms = [text for text in found if "perplexity: " in text and "seed 4" not in text]
    assert len(arms) == 3
    assert sum("/random perplexity" in text for text in arms) == 1


MOVED = {0: MEANS, 1: {method: mean + 1 for method, mean in MEANS.items()}}
