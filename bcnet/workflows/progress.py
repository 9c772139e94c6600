"""Progress bars of the workflows, with the time left. No TensorFlow here: auditing needs none."""

from tqdm import tqdm

BAR_FORMAT = (
    "{desc} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
)


def make_bar(total: int, label: str, *, shown: bool, in_bytes: bool = False) -> tqdm:
    """Make a progress bar, to be used in a `with` statement.

    Args:
        total: what the calls of `update` add up to.
        label: what is being done.
        shown: False for silence.
        in_bytes: write 1.5M for 1500000.
    """
    return tqdm(
        total=total,
        desc=label,
        disable=not shown,
        bar_format=BAR_FORMAT,
        mininterval=0.5,
        delay=0.2,  # what is refused at once leaves no bar above its message
        unit_scale=in_bytes,
    )
