"""Several opinions in one graph: members of an ensemble, and the symmetries of a picture.

Averages are taken at the logit, before the one tail, so that what is calibrated and thresholded
is the average; and inside the graph, so that a saved model gives it in any script.
"""

import keras
from keras import layers

from bcnet.models.parts import add_end, copy_weights

# Symmetries as (transposed, upside down, mirrored). The picture as it is comes last: a heatmap
# is drawn from the last of several calls.
MIRRORED = ((False, False, True),)
UPRIGHT = ((False, True, True), (False, True, False), *MIRRORED)
TRANSPOSED = tuple((True, down, across) for down in (False, True) for across in (False, True))
UNCHANGED = (False, False, False)

FIRST_MEMBER = "member1"


def list_turns(image_size, modality):
    """List the symmetries under which a picture keeps its label, the picture itself last.

    Args:
        image_size: `(height, width)` in pixels.
        modality: "tissue" (all eight of a square, four of a rectangle) or "radiology" (left and
            right, as up and down mean something there).

    Returns:
        Tuples of three booleans: transposed, upside down, mirrored, applied in this order.

    Example:
        >>> list_turns((28, 28), "radiology")
        [(False, False, True), (False, False, False)]
    """
    if modality == "radiology":
        return [*MIRRORED, UNCHANGED]
    height, width = image_size
    return [*(TRANSPOSED if height == width else ()), *UPRIGHT, UNCHANGED]


def average_members(members, turns=(UNCHANGED,)):
    """Build one network that averages the logits of several, over several turns of each picture.

    Args:
        members: Networks of ours with the same input shape; a calibration of theirs is left out.
        turns: What `list_turns` gives; by default the picture as it is.

    Returns:
        An uncompiled `keras.Model` with copies of the members nested in it as `member1`,
        `member2` …, taking and giving what they take and give. Its layer `logit` is the average.
        A single member without turns is returned as it is.

    Raises:
        ValueError: If the input shapes differ.

    Example:
        >>> pair = average_members([build_cnn((64, 64)), build_cnn((64, 64))])
        >>> [layer.name for layer in pair.layers]
        ['image', 'member1', 'member2', 'logit', 'calibration', 'probability']
    """
    shapes = {member.input_shape for member in members}
    if len(shapes) != 1:
        raise ValueError(f"`members` must take one input shape. Received: {sorted(shapes)}")
    if len(members) == 1 and tuple(turns) == (UNCHANGED,):
        return members[0]
    image = keras.Input(shapes.pop()[1:], name="image")
    views = [turn_images(image, turn) for turn in turns]
    bodies = [_cut_tail(member, f"member{i}") for i, member in enumerate(members, start=1)]
    logits = [body(view) for body in bodies for view in views]
    x = layers.Average(name="logit", dtype="float32")(logits)
    return keras.Model(image, add_end(x), name=f"mean_{members[0].name}")


def _cut_tail(member, name):
    """Copy a member up to its logit; its layers' names begin with `name`, as all must differ."""

    def rename(operation):
        config = operation.get_config()
        return operation.__class__.from_config({**config, "name": f"{name}_{config['name']}"})

    body = keras.Model(member.input, member.get_layer("logit").output)
    renamed = keras.models.clone_model(body, clone_function=rename)
    copy_weights(body, renamed)
    return keras.Model(renamed.input, renamed.output, name=name)


def turn_images(images, turn):
    """Turn a batch of pictures as one of `list_turns` says.

    Args:
        images: `(n, height, width, channels)`, a tensor or a symbolic one.
        turn: Transposed, upside down, mirrored, applied in this order.

    Returns:
        The turned batch; height and width change places where it is transposed.

    Example:
        >>> turned = turn_images(keras.ops.array([[[[1], [2]]]]), (False, False, True))
        >>> keras.ops.convert_to_numpy(turned).ravel().tolist()
        [2, 1]
    """
    transposed, *flips = turn
    if transposed:
        images = keras.ops.transpose(images, (0, 2, 1, 3))
    axes = [axis for axis, flipped in zip((1, 2), flips, strict=True) if flipped]
    return keras.ops.flip(images, axes) if axes else images
