"""Progress bars of the workflows, with the time left. No TensorFlow here: auditing needs none."""

from tqdm import tqdm

BAR_FORMAT = (
    "{desc} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
)


def make_bar(total: int, label: str, *, shown: bool) -> tqdm:
    """Make a progress bar, to be used in a `with` statement.

    Args:
        total: what the calls of `update` add up to.
        label: what is being done.
        shown: False for silence.
    """
    return tqdm(total=total, desc=label, disable=not shown, bar_format=BAR_FORMAT, mininterval=0.5)
