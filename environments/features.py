"""Frozen torsos, which turn each frame into features once, and transfer of a torso from run to run.

Reference: Kalbag et al. transfer a torso.
"""

import contextlib
import json
import os
import pathlib
import threading
import urllib.request
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

import choices
import wrappers
from storage import files, layout, reading, strangers
from storage import weights as storage_weights

IMAGENET_SCREEN = (224, 224, 3)  # RGB, of the size that networks of ImageNet were trained on
STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications"
# name -> in keras.applications the constructor, and the module that preprocesses RGB from 0 to 255; address of the
# weights. EfficientNet is not among them: Keras builds it in another way where Keras itself loads ImageNet's weights.
PRETRAINED = {
    "resnet50": ("ResNet50", "resnet50",
                 f"{STORAGE}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    "mobilenetv2": ("MobileNetV2", "mobilenet_v2",
                    f"{STORAGE}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"),
}
ANSWER_SECONDS = 5  # to wait for the server's answer


class Torso:
    """A compiled function uint8[N, H, *screen] -> float32[N, D] whose weights never change.

    Args:
        network: its `save_weights` writes a file that `load` can read.
        layers: [N, ...] -> float32[N, D], a built Keras model.
        prepare: function of uint8[N, H, *screen], applied before the layers.
        screen: shape of a screen: (84, 84), gray, or RGB, (84, 84, 3) or (224, 224, 3).
        history: H.
        about: the contents of torso.json.

    Attributes:
        size: D.
        traces: names of the functions traced so far.
    """

    def __init__(self, network: Any, layers: Any, prepare: Callable[[Any], Any], screen: tuple[int, ...], history: int,
                 about: dict[str, Any]) -> None:
        self.screen, self.history, self.size = screen, history, layers.output_shape[-1]
        import backends  # here, as is `models` below, so that a flag is refused before Keras is imported
        self._network, self._about = network, about
        self._compiled, self.traces = backends.compile_torso(
            lambda frames: layers(prepare(frames), training=False), layers.variables, (history, *screen))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return np.array(self._compiled(frames))

    def keep(self, run: Any) -> None:
        """Write a copy into the directory of a storage.run.Run, so that the run needs the torso's source no more."""
        if not _kept(run.directory, self._about["features"]):
            run.save_weights(layout.TORSO, self._network.save_weights)
            files.write_whole(run.directory / layout.TORSO_ABOUT, json.dumps(self._about, indent=1).encode())


def load(features: str | None, directory: str | pathlib.Path) -> Torso | None:
    """Return the Torso that --features names, None for None.

    Args:
        features: `resnet50:imagenet` or `resnet50:<path of weights>`, with any name of PRETRAINED; or the directory of
            a run.
        directory: of the run that the torso is for. If it holds a copy of the torso already, the copy is loaded.

    Raises:
        ValueError: there is no such torso, in one sentence.
    """
    if features is None:
        return None
    kept = _kept(directory, features)
    path = layout.weights_path(directory, layout.TORSO) if kept else None
    name, colon, weights = features.partition(":")
    if name in PRETRAINED and colon:
        return _pretrained(features, name, path or weights)
    if not kept and not pathlib.Path(features).is_dir():
        raise ValueError(f"--features={features} is neither the directory of a run nor NAME:imagenet or "
                         f"NAME:PATH_OF_WEIGHTS with a NAME of {', '.join(PRETRAINED)}")
    if not kept:
        settings, path = _read_source(f"--features={features}", features)
        kept = dict(features=features, network=settings["network"], history=settings.get("history"),
                    color=bool(settings.get("color")))
    network, history = kept.get("network"), kept.get("history")
    if not isinstance(network, str) or ":" not in network and network not in choices.NETWORKS:
        raise ValueError(f"--features={features} is a run of --network={network!s:.80}, which is not in the table of "
                         "choices.py")
    if type(history) is not int or not 0 < history <= 1000:
        raise ValueError(f"--features={features} is a run of --history={history!s:.80}; expected 1 to 1000")
    screen = wrappers.COLOR if kept.get("color") else wrappers.GRAY  # Torsos kept by earlier versions do not say.
    import models
    # Only the torso is used, so any number of actions and units will do.
    network = models.QNetwork(network, screen, num_actions=1, history=history, units=1)
    _load_fitting(network.load_torso, path, f"--features={features} has no torso for screens of 84x84")
    return Torso(network, network.torso, lambda frames: frames, screen, history, kept)


def find_init(settings: dict[str, Any], directory: str | pathlib.Path) -> pathlib.Path | None:
    """Return the path of the weights that --init_from names; None without it, or where a run goes on.

    Args:
        settings: of the run in `directory`.

    Raises:
        ValueError: --init_from names no run, or one without best weights, or one of other screens.
    """
    if not settings["init_from"] or reading.has_checkpoint(directory):
        return None
    flag = f"--init_from={settings['init_from']}"
    source, path = _read_source(flag, settings["init_from"])
    if bool(source.get("color")) != settings["color"]:
        theirs, ours = ("with", "without") if source.get("color") else ("without", "with")
        raise ValueError(f"{flag} is a run {theirs} --color, and its torso does not fit one {ours} it; expected a run "
                         f"{ours} --color")
    return path


def transfer(path: pathlib.Path, agent: Any) -> None:
    """Copy the torso of weights that `find_init` found into an agent.

    Raises:
        ValueError: the torso does not fit, in one sentence.
    """
    flag = f"--init_from={path.parent}"
    _load_fitting(agent.load_torso, path, f"{flag} has no torso that fits this run")


def _kept(directory, features):
    """Return the contents of torso.json in a run's directory; None if the run has not begun and has no copy yet.

    Raises:
        ValueError: the run has begun, and its copy is missing, damaged or of another torso. Its weights fit no other.
    """
    about_path, weights = pathlib.Path(directory, layout.TORSO_ABOUT), layout.weights_path(directory, layout.TORSO)
    missing = [path for path in (about_path, weights) if not os.path.lexists(path)]
    if missing:
        if reading.has_checkpoint(directory) or layout.weights_path(directory, layout.BEST).exists():
            raise ValueError(f"{missing[0]} does not exist, and the run has learned from the features of no other "
                             "torso; put the file back")
        return None
    strangers.check_regular(weights)
    try:
        about = reading.read_json(about_path)
        if about["features"] == features:
            return about
        reason = f"it is of --features={about['features']!s:.80}"
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
    raise ValueError(f"{about_path} does not describe the torso of --features={features}, which the run has ({reason})")


def _read_source(flag, directory):
    """Return settings and path of the best weights of the run that a flag names.

    Raises:
        ValueError: the directory is no run, or the run has no best weights.
    """
    try:
        return reading.read_config(directory)["settings"], reading.find_weights(directory, layout.BEST)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from error


def _load_fitting(load_weights, path, sentence):
    """Call load_weights(path).

    Raises:
        ValueError: the weights are damaged, or do not fit; then it says the sentence, and why.
    """
    with storage_weights.checked(path), warnings.catch_warnings(action="ignore"):  # Keras warns of what does not fit.
        try:
            load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{sentence} ({' '.join(str(error).split())[:250]})") from error


def _pretrained(features, name, weights):
    """Return a Torso of keras.applications, its last feature maps averaged over the screen."""
    (build_name, module, url), flag = PRETRAINED[name], f"--features={features}"
    if weights == "imagenet":
        weights = _find_imagenet(flag, url)
    elif not pathlib.Path(weights).is_file():
        raise ValueError(f"{flag}: there is no file {weights}; expected weights as Keras saves or publishes them")
    from keras import applications, ops
    build, preprocess = getattr(applications, build_name), getattr(applications, module).preprocess_input
    network = build(include_top=False, pooling="avg", weights=None, input_shape=IMAGENET_SCREEN)
    _load_fitting(network.load_weights, weights, f"{flag}: {weights} does not hold the weights of a {build_name}")
    prepare = lambda frames: preprocess(ops.cast(frames[:, 0], "float32"))
    return Torso(network, network, prepare, IMAGENET_SCREEN, 1, dict(features=features))


def _find_imagenet(flag, url):
    """Return the path of weights in the cache of Keras; download them if they are not there."""
    name = url.rpartition("/")[2]
    cached = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras"), "models", name).expanduser()
    if cached.exists():
        return cached
    if not _server_answers(url):
        raise ValueError(f"{flag}: {cached} does not exist, and the server that has it does not answer; download {url} "
                         f"where there is internet, and give its path: {flag.removesuffix('imagenet')}PATH")
    import keras
    try:
        return keras.utils.get_file(name, url, cache_subdir="models")
    except Exception as error:  # Keras raises no narrower class.
        raise ValueError(f"{flag}: its weights could not be downloaded ({error})") from error


def _server_answers(url):
    """Return whether a server answers within ANSWER_SECONDS, even where a firewall swallows the question."""
    answers = []

    def ask():
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_SECONDS).close()
            answers.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return bool(answers)


def torso_of(envs: gymnasium.vector.VectorEnv) -> Torso | None:
    """Return the Torso of environments; None if they have none."""
    return envs.torso if isinstance(envs, Features) else None


class Features(gymnasium.vector.VectorWrapper):
    """Feature vectors float32[N, D] in place of the frames of a `Flicker`.

    A frozen torso sees each stack of H frames once.
    ```
    screens    s0 s1 __ s3 | s0 s1      H = 2; __ is obscured, so black to the torso too; | an episode's end
    features   of 0 s0, s0 s1, s1 __, __ s3, 0 s0, s0 s1
    ```
    Args:
        envs: wrappers.Flicker; its other attributes are available here too.
        torso: Torso.
    """

    def __init__(self, envs: wrappers.Flicker, torso: Torso) -> None:
        super().__init__(envs)
        self.torso, self.frame_shape, self.frame_dtype = torso, (torso.size,), np.dtype(np.float32)
        self._screens = wrappers.blank_frames(envs, torso.history)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)  # an attribute of Flicker

    def reset(self, *, seed: np.ndarray, options: dict[str, Any] | None = None, rng: Any = None
              ) -> tuple[np.ndarray, dict[str, Any]]:
        screens, info = self.env.reset(seed=seed, options=options, rng=rng)
        self._first = np.ones(self.num_envs, bool)
        self._push(screens, ~self._first)
        return self.torso(self._screens), info

    def reseed(self, mask: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        screens, info = self.env.reseed(mask, seeds)
        self._screens[mask, -1] = screens[mask]  # In this row they reset anyway: the screens before it are blank.
        return self.torso(self._screens), info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        self.send(actions)
        return self.receive()

    def receive(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        screens, reward, terminated, truncated, info = self.env.receive()
        self._push(screens, terminated | truncated)
        return self.torso(self._screens), reward, terminated, truncated, info

    def get_state(self) -> dict[str, np.ndarray]:
        return self.env.get_state() | dict(screens=self._screens, ended=self._first)

    def set_state(self, arrays: dict[str, np.ndarray]) -> bool:
        self._screens, self._first = arrays["screens"], arrays["ended"]
        return self.env.set_state(arrays)

    def _push(self, screens, ended):
        self._screens = wrappers.push_frame(self._screens, screens, self._first)
        self._first = ended  # The row after an end is a first one.
