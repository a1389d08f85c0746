"""``benchsuite completion``: the script by which a shell completes commands and names."""

from collections.abc import Sequence

from benchsuite.commands.candidates import SHELLS, candidates
from benchsuite.commands.parser import Parser

# Each asks for what the last word may become. What readline takes for the end of a word (=, :)
# cuts it; so bash hands over the line, and gets back what comes after such a character.
_BASH = """\
_benchsuite() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}"
    COMPREPLY=($("${COMP_WORDS[0]}" completion --of bash -- "$line" 2>/dev/null))
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.\\(] ]] && compopt -o nospace
}
complete -o default -F _benchsuite benchsuite
"""

_ZSH = """\
#compdef benchsuite
_benchsuite() {
    local -a found
    local line="${(j: :)words[1,CURRENT-1]} ${words[CURRENT][1,${#words[CURRENT]}-${#SUFFIX}]}"
    found=("${(@f)$(${words[1]} completion --of zsh -- "$line" 2>/dev/null)}")
    found=(${found:#})
    (( $#found )) || { _files; return }
    local -a open=(${(M)found:#*[=.\\(]}) whole=(${found:#*[=.\\(]})
    (( $#open )) && compadd -S '' -- "${open[@]}"
    (( $#whole )) && compadd -- "${whole[@]}"
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _benchsuite "$@"
else
    compdef _benchsuite benchsuite
fi
"""

_FISH = """\
function __benchsuite
    set -l line (commandline -cp)
    set -l words (commandline -opc)
    $words[1] completion --of fish -- "$line" 2>/dev/null
end
complete -c benchsuite -a '(__benchsuite)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(arguments: Sequence[str]) -> int:
    """Print the script that completes commands, options, studies, models and methods in a shell.

    For bash `eval "$(benchsuite completion bash)"` in ~/.bashrc; for zsh the same with zsh, after
    compinit; for fish `benchsuite completion fish > ~/.config/fish/completions/benchsuite.fish`.
    """
    if list(arguments[:1]) == ["--of"]:  # a script asks
        print("\n".join(_asked(arguments[1], arguments[-1])))
        return 0
    parser = Parser(completion)
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    print(_SCRIPTS[parser.parse_args(list(arguments)).shell], end="")
    return 0


def _asked(shell: str, line: str) -> list[str]:
    """Return what the end of a line may become, as the shell wants it."""
    words, kept = split(line)
    found = candidates(words[1:])
    if shell != "bash" or kept:
        return found
    # Unquoted, readline completes what comes after the last of its own word breaks alone.
    cut = max(words[-1].rfind(character) for character in "=:") + 1
    return [one[cut:] for one in found]


def split(line: str) -> tuple[list[str], bool]:
    """Return the words of an unfinished line, and whether the last one is inside quotes."""
    words, quote, escaped, begun = [""], "", False, False
    for character in line:
        if escaped:
            words[-1] += character
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = begun = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                words[-1] += character
        elif character in "'\"":
            quote, begun = character, True
        elif character.isspace():
            if begun or words[-1]:
                words.append("")
            begun = False
        else:
            words[-1] += character
    return words, bool(quote)
