"""What figures have in common: random play behind curves, a colour per network everywhere, files that a journal takes."""

import numpy as np
import pytest
from helpers.run_files import write_run

import models
import plot
from analysis import curves, drawing
from storage import reading

SWEEP = "policy,weights,observation_probability,episode,episode_return,length,epsilon,eval_seed"


def draw(folder, y="eval"):
    found = reading.find_runs([folder])[0]
    return curves.draw(curves.read_curves(found, y=y)[0], y=y, random_play=reading.read_random_play(found))


@pytest.mark.parametrize("y", ["eval", "train"])
def test_a_panel_has_the_mean_of_its_own_random_play(tmp_path, y):
    own = dict(evaluations=[(100, (1, 3))], episodes=[(50, 2, 0)])
    for env, returns in (("Breakout", (1, 2)), ("Pong", (-21, -20, -20.5)), ("Tennis", ())):
        write_run(tmp_path / env, **own, env=env, random=returns)
    figure = draw(tmp_path, y)
    dashed = [[line for line in axes.lines if line.get_color() == drawing.RANDOM["color"]] for axes in figure.axes]
    assert [[(line.get_label(), *line.get_ydata()) for line in of_panel] for of_panel in dashed] == [
        [("random play 1.50", 1.5, 1.5)], [("random play -20.50", -20.5, -20.5)], []]
    assert [axes.get_legend() and axes.get_legend().get_texts()[0].get_text() for axes in figure.axes] == [
        "random play 1.50", "random play -20.50", None]


def test_random_play_of_a_sweep_will_do(tmp_path):
    rows = [SWEEP, "agent,best,1.0,0,100,9,0.05,0", "random,random,1.0,0,20,9,1.0,0", "random,random,1.0,1,26,9,1.0,0"]
    swept, both = write_run(tmp_path / "a"), write_run(tmp_path / "b", random=(30, 40))
    for run in (swept, both):
        (run / "observability.csv").write_text("\n".join(rows) + "\n")
    returns = reading.read_random_play([swept, both])
    np.testing.assert_array_equal(returns[swept], [20, 26])
    np.testing.assert_array_equal(returns[both], [30, 40])  # What evaluate.py wrote beside a score comes first.
    (both / "episodes-random.csv").write_text("policy,episode_return\n")
    with pytest.raises(ValueError, match=r"episodes-random.csv is damaged, or not of this suite: it has no episodes"):
        reading.read_random_play([both])


def test_a_network_has_a_colour_of_its_own_whatever_stands_beside_it(tmp_path):
    assert set(drawing.COLOURS) == set(models.NETWORKS) and len(set(drawing.COLOURS.values())) == len(models.NETWORKS)
    own = {network: drawing.to_rgb(drawing.COLOURS[network]) for network in ("DRQN_RNN2", "DRQN_ReLU", "DQN")}
    for network in own:
        write_run(tmp_path / network, [(100, (1, 3))], network=network)
    together = {line.get_label(): line.get_color() for line in draw(tmp_path).axes[0].lines}
    assert together == {f"{network}, 1 frame": colour for network, colour in own.items()}
    for network, colour in own.items():
        assert draw(tmp_path / network).axes[0].lines[0].get_color() == colour


@pytest.mark.parametrize("figure", ["curves", "observability"])
def test_a_pdf_has_its_fonts_as_truetype_and_nothing_is_written_beside_it(tmp_path, figure, capsys):
    run = write_run(tmp_path / "a", [(100, (1, 3)), (200, (5, 9))], maxsteps=200)
    rows = [SWEEP, "agent,best,0.5,0,50,9,0.05,0", "agent,best,1.0,0,100,9,0.05,0", "random,random,1.0,0,20,9,1.0,0"]
    (run / "observability.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "figures" / "one.pdf"
    assert plot.main([str(run), f"--figure={figure}", f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"1 run drawn: {out}.\n" and list(out.parent.iterdir()) == [out]
    pdf = out.read_bytes()
    assert pdf.startswith(b"%PDF") and b"/CIDFontType2" in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert b"/CreationDate" not in pdf  # The same runs, the same bytes.
