"""Whether Weights & Biases has a key here; the key itself is never read out."""

import netrc
import os


def has_wandb_key() -> bool:
    """Tells whether a W&B key is set, without asking the person for one.

    Returns:
        bool. True if `WANDB_API_KEY` is set or `wandb login` left a key.
    """
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)
