"""`python -m durations 1h30m` prints 5400; `python -m durations --seconds 5400` prints 1h30m."""

import sys

from durations import DurationError, format_seconds, parse


def main(arguments: list[str]) -> int:
    """Print the one answer, or say what is wrong and return 2."""
    try:
        match arguments:
            case ["--seconds", number] if number.isdigit():
                print(format_seconds(int(number)))
            case [text] if not text.startswith("-"):
                print(parse(text))
            case _:
                print("usage: durations DURATION | --seconds NUMBER", file=sys.stderr)
                return 2
    except DurationError as error:
        print(f"durations: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
