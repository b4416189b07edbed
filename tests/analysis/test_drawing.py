"""How figures look: labels, colours and dashes from the data, legends without overlaps, files."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import choices
from analysis import curve_figure, curves, drawing
from helpers.disks import small_disk
from helpers.run_files import find_checked, write_run


def draw_folder(folder):
    return curve_figure.draw_curves(curves.read_curves(find_checked([folder])[0])[0])


def styles_of(figure):
    """Return {label: (colour, dashes)} of the lines of the first panel."""
    return {line.get_label(): (line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}


def test_labels_name_the_settings_that_differ_and_no_files(tmp_path):
    every = [dict(network="DQN", history=10), dict(network="DQN", history=4), dict(), dict(learning_rate=0.0005)]
    for i, settings in enumerate(every):
        write_run(tmp_path / f"misleading-{i}", [(100, (i, i))], **settings)
    figure = draw_folder(tmp_path)
    labels = ["DRQN, 1 frame, learning_rate 0.0005", "DRQN, 1 frame, learning_rate 0.001", "DQN, 4 frames",
              "DQN, 10 frames"]
    assert list(styles_of(figure)) == labels
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"{label} (1 seed)" for label in labels]


def test_settings_are_sorted_by_size_and_none_comes_first():
    assert sorted(["b", 10, None, 2.5, "a"], key=drawing.sort_key) == [None, 2.5, 10, "a", "b"]


def test_a_network_has_the_same_colour_in_every_figure(tmp_path):
    assert set(drawing.COLOURS) == set(choices.NETWORKS)
    assert len(set(drawing.COLOURS.values())) == len(choices.NETWORKS)
    colours = {network: to_rgb(drawing.COLOURS[network]) for network in ("DRQN_RNN2", "DRQN_ReLU", "DQN")}
    for network in colours:
        write_run(tmp_path / network, [(100, (1, 3))], network=network)
    together = {line.get_label(): line.get_color() for line in draw_folder(tmp_path).axes[0].lines}
    assert together == {f"{network}, 1 frame": colour for network, colour in colours.items()}
    for network, colour in colours.items():
        assert draw_folder(tmp_path / network).axes[0].lines[0].get_color() == colour


def test_colours_belong_to_networks_and_dashes_to_their_variants(tmp_path, monkeypatch):
    monkeypatch.setitem(choices.NETWORKS, "Another", choices.NETWORKS["DQN"])
    for i, (network, history) in enumerate([("DRQN", 1), ("DQN", 1), ("DQN", 4), ("Another", 1)]):
        write_run(tmp_path / f"{i}", [(100, (i, i)), (200, (i, i))], network=network, history=history)
    styles = styles_of(draw_folder(tmp_path))
    assert styles["DRQN, 1 frame"][0] == to_rgb("#D55E00")
    assert len(set(styles.values())) == len(styles) == 4
    dark, light = styles["DQN, 1 frame"], styles["DQN, 4 frames"]
    assert sum(dark[0]) < sum(to_rgb("#0072B2")) < sum(light[0]) and dark[1] != light[1]
    alone = draw_folder(tmp_path / "2").axes[0].lines[0]
    assert alone.get_color() == to_rgb("#0072B2") and alone.get_linestyle() == "-"


def test_no_text_overlaps_or_leaves_the_figure(tmp_path):
    for i in range(6):
        write_run(tmp_path / f"{i}", [(100_000, (i, i)), (1_000_000, (i, 1000 * i))], learning_rate=10.0**-i,
                  units=2**i, env="Pong")
    figure = draw_folder(tmp_path)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,), (legend,) = figure.axes, figure.legends
    ticks = [label for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
             for at, label in zip(axis.get_ticklocs(), axis.get_ticklabels()) if limits[0] <= at <= limits[1]]
    texts = [axes.title, axes.xaxis.label, axes.yaxis.label, legend.get_title(), *legend.get_texts(), *ticks]
    boxes = [artist.get_window_extent(canvas.get_renderer()) for artist in [axes, *texts]]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert legend.get_texts()[5].get_text().endswith("\nlearning_rate 1e-05 (1 seed)")


def test_a_figure_is_saved_under_the_names_that_its_path_asks_for(tmp_path):
    figure, out = Figure(), tmp_path / "folder" / "one"
    for given, suffixes in (("", [".png", ".svg"]), (".png", [".png", ".svg"]), (".pdf", [".pdf"])):
        paths = drawing.save_figure(figure, f"{out}{given}")
        assert paths == [out.with_suffix(suffix) for suffix in suffixes] and all(path.exists() for path in paths)
    with pytest.raises(ValueError, match=r"asks for .eps; expected .pdf, or a path to which .png and .svg are added"):
        drawing.save_figure(figure, f"{out}.eps")
    with pytest.raises(ValueError, match=r"is a directory; expected a path to which .png and .svg are added"):
        drawing.save_figure(figure, str(tmp_path))


def test_a_full_disk_leaves_the_figures_that_were_there(tmp_path):
    figure = draw_folder(write_run(tmp_path / "run", [(100, (1, 3)), (200, (2, 4))]))
    with small_disk(tmp_path / "disk") as disk:
        paths = drawing.save_figure(figure, f"{disk.place}/one")
        before = [path.read_bytes() for path in paths]
        for room in (0, 4096, len(before[0]) + 4096):  # The last takes the picture, and not the drawing behind it.
            disk.fill(but=room)
            with pytest.raises(ValueError, match="--out=.*one cannot be written .*(No space left|File too large)"):
                drawing.save_figure(figure, f"{disk.place}/one")
            disk.free()
            assert [path.read_bytes() for path in paths] == before
            assert sorted(disk.place.iterdir()) == sorted(paths)


def test_a_dollar_in_a_name_is_no_mathematics(tmp_path):
    write_run(tmp_path / "a", [(100, (1, 3)), (200, (2, 4))], env=r"Dollar$\frac$-v0")
    figure = draw_folder(tmp_path)
    FigureCanvasAgg(figure).draw()
    assert figure.axes[0].get_title() == r"Dollar$\frac$-v0"
