"""Completion in Bash of the commands without Hydra, and what Hydra's of `vae-run` lacks."""

import os

from vae_runner.cli.options import DRY_RUN
from vae_runner.compat import hydra as hydra_internals

OPTIONS = (DRY_RUN, "--version")  # of vae-run, beside Hydra's
# What `eval "$(vae-run -sc install=bash)"` takes beside Hydra's. A command's --help is asked once a shell.
SCRIPT = """
declare -gA _vae_runner_options
_vae_runner_completion()
{
    local word="${COMP_WORDS[COMP_CWORD]}" asked="$1" verbs="best show rm tag note"
    if [[ $1 == vae-runs && " $verbs " == *" ${COMP_WORDS[1]} "* ]]; then
        asked="$1 ${COMP_WORDS[1]}"
    fi
    COMPREPLY=()
    if [[ $word == -* ]]; then
        if [[ -z ${_vae_runner_options[$asked]} ]]; then
            _vae_runner_options[$asked]=$($asked --help 2> /dev/null | grep -oE -e '--[a-z]+(-[a-z]+)*' | sort -u)
        fi
        COMPREPLY=($(compgen -W "${_vae_runner_options[$asked]}" -- "$word"))
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} != --* ]]; then
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        if [[ $1 == vae-runs && $COMP_CWORD == 1 ]]; then
            COMPREPLY+=($(compgen -W "$verbs" -- "$word"))
        fi
    fi
}
complete -o filenames -o default -F _vae_runner_completion \\
    vae-runs vae-sample vae-compare vae-evaluate vae-encode vae-reconstruct
"""
# What `eval "$(vae-run -sc uninstall=bash)"` takes beside Hydra's, which leaves its rule where there was none before.
UNINSTALL = """
if [[ $(complete -p vae-run 2> /dev/null) == *hydra_bash_completion* ]]; then
    complete -r vae-run
fi
complete -r vae-runs vae-sample vae-compare vae-evaluate vae-encode vae-reconstruct 2> /dev/null
unset -f _vae_runner_completion
unset _vae_runner_options
"""


def complete_options() -> bool:
    """Print the options of `vae-run` if one is being typed; return whether that is so.

    Else, take our own out of the line that Hydra, which does not know them, is to complete.
    """
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if words and words[-1].startswith("-") and not line.endswith(" "):
        known = {option for action in hydra_internals.arguments_parser()._actions for option in action.option_strings}
        print("\n".join(sorted({*known, *OPTIONS})))  # for fish, which takes each line for one
        return True
    os.environ["COMP_LINE"] = " ".join(word for word in words if word not in OPTIONS) + line[len(line.rstrip()) :]
    return False
