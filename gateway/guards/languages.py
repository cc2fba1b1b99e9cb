"""Which language is a text in? Told by its script, and for Latin letters by its most frequent words.

Cautious: a short or mixed text is of no language, and a rule lets it through. Not a linguist, but quick (some
20 us for 2 kB) and without a model.
"""

import re
from collections import Counter

# So much of a text decides.
JUDGED_CHARACTERS = 600
_FEWEST_LETTERS = 25
_FEWEST_WORDS = 4
# Everything before it is Latin letters.
_FIRST_OTHER_SCRIPT = "\u0370"

# Of the most frequent words those that few other languages here share.
_FREQUENT = {
    "en": "the and of to is that with for was this are you have not be from they which what your please would how",
    "de": "der die und das ist nicht ein eine mit den von zu auf für dem sich auch wie ich sie bitte wird oder aber",
    "fr": "le la les des est une dans pour que qui pas vous nous avec sur ce cette sont je il du au mais être ou",
    "es": "el los las una que es por con para del como más pero su está son muy también yo usted qué este sobre al",
    "it": "il gli che di è una per con non sono della del nel alla più come anche questo io ma mi le si dei",
    "pt": "os uma não que é para com por mais como mas do da dos das em se você ao são muito também está isso",
    "nl": "het een van en is dat niet op te zijn voor met aan ook door maar wij jij deze worden naar hoe mijn de",
    "pl": "nie się jest na że do to jak ale czy dla od tak po jego przez może które był tylko są ten proszę i",
    "sv": "och att det som är på en inte jag för av med har till den om ett men så vi kan från vad hur",
    "da": "og det at er en til på ikke jeg der med af for har den de som vi kan fra hvad hvordan også men",
    "cs": "je se na že to nebo ale jak jsem pro by byl který jsou není tak co jako od při já své podle aby",
    "tr": "ve bir bu için ile da ne çok daha gibi ama olarak var değil ben nasıl mi olan kadar sonra lütfen en de",  # noqa: RUF001
    "fi": "ja on ei se että oli hän mutta kun niin minä kuin myös joka ovat tämä voi miten mitä sinä tai olen",
}
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _FREQUENT.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_language)
# Script -> language, where one language is by far the likeliest. Cyrillic and Arabic letters are told apart below.
_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\u1100-\u11ff\uac00-\ud7af]")),
    ("zh", re.compile("[\u3400-\u9fff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
)
_PUNCTUATION = str.maketrans(dict.fromkeys(".,;:!?\"'()[]", " "))
_UKRAINIAN = re.compile("[іїєґІЇЄҐ]")
_PERSIAN = re.compile("[پچژگ]")
LANGUAGES = frozenset(_FREQUENT) | {language for language, _ in _SCRIPTS} | {"uk", "fa"}


def find_language(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language, or None where it cannot be told."""
    sample = text[:JUDGED_CHARACTERS]
    letters = sum(map(str.isalpha, sample))
    if max(sample, default="") >= _FIRST_OTHER_SCRIPT:
        found = _language_of_script(sample, letters)
        if found is not None:
            return found
    return _language_of_words(sample) if letters >= _FEWEST_LETTERS else None


def _language_of_script(sample: str, letters: int) -> str | None:
    for language, script in _SCRIPTS:
        count = len(script.findall(sample))
        # Chinese needs few signs for a sentence, and Japanese writes many of its words with them.
        if count >= (4 if language in ("zh", "ja", "ko") else 12) and count > letters * (
            0.1 if language == "ja" else 0.5
        ):
            if language == "ru" and _UKRAINIAN.search(sample):
                return "uk"
            return "fa" if language == "ar" and _PERSIAN.search(sample) else language
    return None


def _language_of_words(sample: str) -> str | None:
    words = sample.lower().translate(_PUNCTUATION).split()
    scores = Counter(language for word in words for language in _LANGUAGES_OF.get(word, ()))
    (first, most), (_, second) = [*scores.most_common(2), ("", 0), ("", 0)][:2]
    is_clear = most >= 3 and most >= second * 1.5 and most >= len(words) * 0.15
    return first if is_clear and len(words) >= _FEWEST_WORDS else None
