"""`fuse` makes the view of a network that is trained and evaluated: the same layers, several computed together."""

from collections import defaultdict
from collections.abc import Sequence
from types import ModuleType

import keras

from vae_runner.acceleration.chains import CHAINS, ParallelDense
from vae_runner.acceleration.fused import Fused
from vae_runner.acceleration.single_layers import accelerated


def fuse(network: keras.Model, custom_ops: ModuleType | None = None) -> keras.Model:
    """Return a view of a network that shares its layers, and so its variables, and computes the same numbers faster.

    Chains of Keras's own layers are found by their inputs and outputs, in any functional model. A network in which a
    layer is used more than once, or that is no functional model, is returned as it is.
    """
    if not isinstance(network, keras.Model) or isinstance(network, keras.Sequential) or not network.inputs:
        return network
    fused = _fused_layers(network, custom_ops)
    if fused is None:
        return network
    views = {layer.name: view for view in fused for layer in view.layers}
    outputs: dict[str, dict[str, keras.KerasTensor]] = {}  # of layers side by side, by the name of their view

    def call(layer: keras.layers.Layer, *inputs: keras.KerasTensor, **arguments: object) -> keras.KerasTensor:
        view = views.get(layer.name)
        if view is None:
            return layer(*inputs, **arguments)
        if isinstance(view, ParallelDense):
            if view.name not in outputs:
                outputs[view.name] = view(*inputs)
            return outputs[view.name][layer.name]
        # A chain is computed in place of its last layer; until then its input is passed on.
        return view(*inputs) if layer is view.layers[-1] else inputs[0]

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)


def _fused_layers(network: keras.Model, custom_ops: ModuleType | None) -> list[Fused] | None:
    """Return the views that replace layers of a network; None where a layer is used more than once."""
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    known = {id(tensor) for tensor in [*network.inputs, *(t for layer in layers for t in _tensors(layer.output))]}
    takers = defaultdict(list)
    for layer in layers:
        for tensor in _tensors(layer.input):
            takers[id(tensor)].append(layer)
    given = {id(tensor) for tensor in network.outputs}
    if not known >= given | takers.keys():  # `layer.input` and `layer.output` are those of a layer's first use
        return None

    views: list[Fused] = []
    done: set[str] = set()

    def chain_from(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
        """Return the layer and those after it, as far as each output is the input of one layer alone."""
        chain = [layer]
        while id(chain[-1].output) not in given and len(takers[id(chain[-1].output)]) == 1:
            following = takers[id(chain[-1].output)][0]
            if len(_tensors(following.input)) > 1 or len(_tensors(following.output)) > 1:
                break
            chain.append(following)
        return chain

    for layer in layers:
        if layer.name in done or len(_tensors(layer.input)) > 1 or len(_tensors(layer.output)) > 1:
            continue
        view = _first_view(chain_from(layer), custom_ops)
        if view is None and id(layer.output) in given and ParallelDense.fits(layer):
            beside = [other for other in takers[id(layer.input)] if id(other.output) in given]
            view = ParallelDense([other for other in beside if ParallelDense.fits(other)])
        if view is not None:
            views.append(view)
            done |= {layer.name for layer in view.layers}
    return views


def _first_view(chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> Fused | None:
    """Return the view of the first layers of a chain that saves most, or None."""
    for cls in CHAINS:
        if view := cls.view(chain, custom_ops):
            return view
    single = accelerated(chain[0], custom_ops)
    return single if isinstance(single, Fused) else None


def _tensors(structure: object) -> list[keras.KerasTensor]:
    return keras.tree.flatten(structure)
