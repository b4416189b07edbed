"""A frame of a film, composed from few words, and the panels in it."""

import numpy as np

from films import film, panels

NAMES = ["NOOP", "UP", "DOWN RIGHT FIRE"]
SCREEN = np.zeros((210, 320, 3), np.uint8)
FRAMES = np.full((4, 84, 84), [[[40]], [[80]], [[120]], [[160]]], np.uint8)


def compose_example(screen=SCREEN, seen=FRAMES, q_values=(0, 1, 0.5), action=1, names=NAMES, episode_return=0, step=0,
                    values=(1,), span=9, scales=None, layout=panels.FULL, title="", subtitle="", seen_names=(),
                    **of_moment):
    """Compose a frame whose scales just hold it, where `scales` gives no others."""
    moment = film.Moment(screen, episode_return, step, seen, np.array(q_values, np.float32), action, **of_moment)
    if scales is None:
        scales = film.Scales()
        scales.extend(moment)
    return film.compose_frame(moment, scales, values, span, names, title, subtitle, layout, seen_names)


def crop_box(image, box, layout=panels.FULL):
    """Return the part of a frame in a box, which lies inside of the frame."""
    left, top, right, bottom = box
    assert 0 <= left < right <= layout.width and 0 <= top < bottom <= panels.HEIGHT, "the box does not fit in the frame"
    return image[top:bottom, left:right]


def crop_panels(image, screen=SCREEN, history=4):
    """Return the true screen, the newest frame, and the earlier ones, newest first, as they were drawn."""
    screen_box, seen_boxes, _ = panels.panel_boxes(screen.shape, history)
    return [crop_box(image, box) for box in (screen_box, *seen_boxes)]
