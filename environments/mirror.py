"""Repeat the first environment's episode in a copy that renders, for a window or a film."""

import numbers
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import ale_py
import gymnasium
import numpy as np

NOOP = 0
USUAL_FPS = 30  # of an environment whose metadata has no render_fps that is a rate


def prepare_sdl(render_mode: str | None) -> None:
    """Tell SDL, with which pygame and ALE draw, whether a window will open. Call it before anything is built.

    Raises:
        ValueError: a window is asked for, and there is no display.
    """
    if render_mode != "human":
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # Films need no display; pygame warns where it finds none.
    elif sys.platform.startswith("linux"):
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ValueError("--render opens a window, and there is no display here: neither DISPLAY nor "
                             "WAYLAND_DISPLAY is set; --video=film.mp4 films the episode instead")
        # No other driver, so that a display that does not answer is an error.
        os.environ.setdefault("SDL_VIDEODRIVER", "x11,wayland")
        # Windows without OpenGL, because Mesa would call the LLVM inside TensorFlow in place of Mesa's, and crash.
        os.environ.update(SDL_RENDER_DRIVER="software", SDL_FRAMEBUFFER_ACCELERATION="0")


class Mirror(gymnasium.vector.VectorWrapper):
    """N environments, and a twin that repeats the first one's first episode after each reset.

    `render` returns the twin's screen, and no others; `metadata` holds its render_fps.

    Args:
        envs: a Gymnasium vector environment.
        twin: Twin or AtariTwin.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv, twin: "Twin | AtariTwin") -> None:
        super().__init__(envs)
        self.twin, self.metadata = twin, envs.metadata | dict(render_fps=twin.render_fps)

    def reset(self, *, seed: Sequence[int] | np.ndarray, options: dict[str, Any] | None = None
              ) -> tuple[np.ndarray, dict[str, Any]]:
        observations, info = self.env.reset(seed=seed, options=options)
        try:
            self.twin.reset(int(seed[0]), info)
        except RuntimeError as error:  # SDL and pygame raise it.
            reason = " ".join(str(error).split()).rstrip(".")
            raise ValueError(f"no window can be opened ({reason}); --video films the episode instead") from error
        self._playing = True
        return observations, info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        observations, reward, terminated, truncated, info = self.env.step(actions)
        if self._playing and not self.twin.step(int(actions[0]), observations[0], reward[0], info):
            raise ValueError("the environment is no function of its seed and actions, so its scored episode cannot be "
                             "shown")
        self._playing &= not (terminated[0] or truncated[0])
        return observations, reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray]:
        return (self.twin.render(),)

    def close(self, **kwargs: Any) -> None:
        self.twin.close()
        super().close(**kwargs)


class Twin:
    """A second Gymnasium environment, which renders.

    Every observation and reward is compared, so that no other episode can be shown.

    Args:
        env: a Gymnasium environment with a render_mode.
        name: of the environment, for errors.
        frame_skip: frames per agent step.
    """

    def __init__(self, env: gymnasium.Env, name: str, frame_skip: int) -> None:
        self._env, self._name, self.close = env, name, env.close
        fps = env.metadata.get("render_fps")
        is_rate = isinstance(fps, numbers.Real) and 0 < float(fps) < np.inf
        self.render_fps = float(fps if is_rate else USUAL_FPS) / frame_skip

    def reset(self, seed: int, info: dict[str, Any]) -> None:
        self._env.reset(seed=seed)

    def step(self, action: int, observation: np.ndarray, reward: float, info: dict[str, Any]) -> bool:
        """Repeat a step; return whether it came out the same."""
        twin_observation, twin_reward, *_ = self._env.step(action)
        return twin_reward == reward and np.array_equal(twin_observation, observation, equal_nan=True)

    def render(self) -> np.ndarray:
        """Return uint8[height, width, 3].

        Raises:
            ValueError: the environment returned no picture.
        """
        rendered = self._env.render()
        try:
            return as_picture(rendered)
        except ValueError as error:
            raise ValueError(f"--env={self._name} cannot be filmed: its render() returned {error}; expected "
                             "uint8[height, width, 3]") from error


def as_picture(rendered: Any) -> np.ndarray:
    """Return what `render` of an environment returned as uint8[height, width, 3].

    A list is of frames, of which the newest counts. Floats are from 0 to 1. Channels may come first, and there may be
    1, 3 or 4 of them, or none.

    Raises:
        ValueError: it is no picture; says what it is.
    """
    if isinstance(rendered, list | tuple) and len(rendered) and isinstance(rendered[-1], np.ndarray):
        rendered = rendered[-1]
    if not isinstance(rendered, np.ndarray):
        raise ValueError("an empty list" if rendered == [] else type(rendered).__name__)
    picture, kind = rendered, f"{rendered.dtype}{list(rendered.shape)}"
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim == 3 and picture.shape[-1] not in (1, 3, 4):
        picture = np.moveaxis(picture, 0, -1)
    if picture.ndim != 3 or picture.shape[-1] not in (1, 3, 4) or not picture.size or picture.dtype.kind not in "fbiu":
        raise ValueError(kind)
    low, high, highest = picture.min(), picture.max(), 1 if picture.dtype.kind in "fb" else 255
    if not 0 <= low <= high <= highest:
        raise ValueError(f"{kind} from {low} to {high}")
    picture = np.rint(picture * 255.0 if highest == 1 else picture).astype(np.uint8)
    return picture.repeat(3, axis=-1) if picture.shape[-1] == 1 else np.ascontiguousarray(picture[..., :3])


class AtariTwin:
    """An emulator that repeats an episode of AtariVectorEnv, which has no window.

    It acts until both frame counters are equal, so that it needs to know nothing of no-ops, skipped frames and the cap.
    Every reward and the lives are compared. Both have the same screens except the last one of an episode, which
    AtariVectorEnv does not show.

    Args:
        rom: name of the game, as ale_py.roms has it.
        sticky: probability that ALE repeats the previous action.
        actions: ale_py.Action of each index.
        frame_skip: frames per agent step.
        render_mode: `human` opens ALE's window.
    """

    def __init__(self, rom: str, sticky: float, actions: Sequence[ale_py.Action], frame_skip: int,
                 render_mode: str) -> None:
        self._rom, self._actions, self.render_fps = ale_py.roms.get_rom_path(rom), actions, 60 / frame_skip
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", sticky)
        self._window, self._due = render_mode == "human", 0
        self._ale.setBool("display_screen", self._window)

    def reset(self, seed: int, info: dict[str, Any]) -> None:
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(self._rom)  # type: ignore[arg-type]  # It has a path, since AtariVectorEnv plays it.
        self._ale.reset_game()
        self._act(self._actions[NOOP], info)
        self._screens = [self._ale.getScreenRGB()]

    def step(self, action: int, observation: np.ndarray, reward: float, info: dict[str, Any]) -> bool:
        """Repeat a step; return whether it came out the same."""
        return self._act(self._actions[action], info) == reward and self._ale.lives() == info["lives"][0]

    def _act(self, action, info):
        """Act until the frame counter is the one in `info`; return the sum of rewards."""
        reward, self._screens = 0, []
        while self._ale.getEpisodeFrameNumber() < info["episode_frame_number"][0]:
            reward += self._ale.act(action)
            self._screens.append(self._ale.getScreenRGB())
            if self._window:  # It shows 60 frames a second, as the console did.
                now = time.monotonic()
                self._due = max(self._due + 1 / 60, now)
                time.sleep(self._due - now)
        return reward

    def render(self) -> np.ndarray:
        """Return uint8[210, 320, 3], the maximum over the last two frames.

        Pixels are doubled in width: on a television they were about twice as wide as high.
        """
        return np.repeat(np.max(self._screens[-2:], axis=0), 2, axis=1)

    def close(self) -> None:
        self._ale = None  # type: ignore[assignment]  # This closes the window.
