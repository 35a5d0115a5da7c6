"""A summary should keep the words of the text. The text itself keeps them all."""


def _words(text: str) -> set[str]:
    return set(text.lower().split())


def flawed(prompt: str, completion: str) -> float:
    """The share of the text's words that the summary has."""
    return len(_words(prompt) & _words(completion)) / len(_words(prompt))


def mended(completion: str, answer: str) -> float:
    """Words shared with a summary that somebody wrote, over the words of both: what is said besides costs."""
    return 2 * len(_words(completion) & _words(answer)) / (len(_words(completion)) + len(_words(answer)))
