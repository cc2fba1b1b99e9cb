"""What prompt injections and jailbreaks say, with how much each phrase weighs.

A text's score is the sum over the different phrases that it has; a rule's threshold says from which score on it acts
(`DEFAULT_THRESHOLD` unless it says otherwise). One phrase of 60 or more is hardly ever said in good faith; the lighter
ones are common in harmless texts and count only together. Distances are bounded, so that streams can be checked.
"""

from typing import NamedTuple

DEFAULT_THRESHOLD = 60


class Phrase(NamedTuple):
    """One expression (RE2's, case does not matter), its weight in points, and the most characters it can match."""

    pattern: str
    weight: int


# Between words: spaces, and what is put there to break words up.
_GAP = r"[\s\W_]{1,5}"
_SOME = rf"(?:{_GAP}(?:all|any|the|these|those|your|my|of|and|every|everything|prior|above|safety|system)){{0,4}}"
_RULES = r"(?:instructions?|prompts?|rules?|guidelines?|directions?|constraints?|policies|restrictions?|programming)"
_BEFORE = r"(?:previous|prior|above|earlier|preceding|foregoing|original|initial|system)"


def _words(text: str) -> str:
    return text.replace(" ", _GAP)


PHRASES = (
    # -- setting instructions aside
    Phrase(rf"\b(?:ignore|disregard|forget|skip|override|bypass|neglect){_SOME}{_GAP}{_BEFORE}{_GAP}{_RULES}", 80),
    Phrase(rf"\b(?:ignore|disregard|forget|override|bypass){_SOME}{_GAP}{_RULES}", 60),
    Phrase(_words(r"\b(?:ignore|disregard|forget) (?:everything|all|anything)(?: (?:you|that|i|was|were|has|been|said|told|above|before)){1,5}"), 60),
    Phrase(_words(rf"\b(?:do not|don.?t|never|stop) (?:follow|obey|following|obeying)(?: (?:the|any|your|those)){{0,2}} (?:{_BEFORE} )?{_RULES}"), 60),
    Phrase(_words(rf"\b(?:new|updated|real|actual|true) {_RULES}\b"), 25),
    Phrase(_words(r"\bfrom now on,? you (?:are|will|must|shall)\b"), 25),
    Phrase(_words(r"\byour (?:new|real|true) (?:task|role|purpose|goal|identity|instructions?)\b"), 35),
    # -- asking for what is hidden
    Phrase(_words(r"\b(?:reveal|show|print|repeat|output|display|leak|tell me|give me|dump|recite|translate)(?: (?:me|us|the|your|all|of|full|entire|exact|complete|verbatim|hidden|secret|original|initial|whole)){0,6} (?:system|developer|hidden|secret|initial|original) (?:prompt|message|instructions?)"), 70),
    Phrase(_words(r"\bwhat(?: (?:is|are|was|were|.s)){1,2} your (?:system|initial|original|hidden|secret|exact) (?:prompt|instructions?|message)"), 60),
    Phrase(_words(r"\b(?:repeat|print|output|write)(?: (?:everything|all|the|words|text|verbatim|out)){1,4} (?:above|before this)"), 60),
    # -- another self
    Phrase(_words(r"\byou are now (?:in |an? |the )?(?:dan|developer mode|jailbroken|unrestricted|unfiltered|free|evil|root)\b"), 80),
    Phrase(_words(r"\bdo anything now\b"), 70),
    Phrase(_words(r"\b(?:enable|enter|activate|switch to|turn on)(?: (?:the|your)){0,1} (?:developer|god|dan|jailbreak|debug|admin|sudo|unrestricted) mode\b"), 70),
    Phrase(_words(r"\b(?:act|behave|respond|answer|reply|pretend|roleplay|play)(?: (?:as|like|to|be|if|you|are|were|an?|the|had|have)){1,6} (?:unrestricted|unfiltered|uncensored|jailbroken|evil|amoral|without (?:any )?(?:restrictions?|rules?|filters?|limits?))"), 70),
    Phrase(_words(r"\b(?:pretend|act as if|imagine|assume)(?: (?:that|you|there|are|is|have|had|were)){1,4} no(?: (?:ethical|moral|content|safety)){0,2} (?:rules?|restrictions?|guidelines?|filters?|limits?|limitations?)"), 65),
    Phrase(_words(r"\bwithout (?:any )?(?:restrictions?|filters?|censorship|moral(?:ity|s)?|ethics|disclaimers?|warnings?)\b"), 30),
    Phrase(_words(r"\b(?:jailbreak|jailbroken|unfiltered|uncensored)\b"), 30),
    Phrase(_words(r"\b(?:bypass|evade|circumvent|disable|turn off|remove)(?: (?:the|your|all|any|its|these)){0,2} (?:safety|content|security|moderation|ethical|openai)(?: (?:filters?|measures?|guidelines?|policy|policies|protocols?|checks?|restrictions?))"), 70),
    Phrase(_words(r"\b(?:opposite|evil) (?:mode|twin|confidant)\b"), 40),
    Phrase(_words(r"\bstay in character\b"), 20),
    Phrase(_words(r"\byou (?:can|must|will) never (?:refuse|decline|say no)\b"), 50),
    Phrase(_words(r"\b(?:hypothetical|fictional) (?:response|scenario|story|world)\b"), 15),
    # -- marks of the model's own protocol inside a text
    Phrase(r"<\|(?:im_start|im_end|system|endoftext|start_header_id|eot_id)\|>", 80),
    Phrase(r"\[/?INST\]|<</?SYS>>", 70),
    Phrase(r"(?m)^\s{0,4}#{2,4}\s{0,4}(?:system|instruction|new instructions?|assistant)\s{0,4}:?\s{0,4}$", 40),
    Phrase(r"(?m)^\s{0,4}(?:system|assistant|developer)\s{0,2}(?:prompt|message|override)?\s{0,2}:", 35),
    Phrase(r"</?(?:system|instructions?|system_prompt|admin)>", 40),
    # -- steering through tools and documents
    Phrase(_words(r"\b(?:send|post|forward|exfiltrate|upload|email)(?: (?:the|this|all|our|your|entire|whole|of|user.?s|users?)){0,5} (?:conversation|chat history|context|credentials?|api keys?|passwords?|secrets?) (?:to|at|via)\b"), 60),
    Phrase(_words(r"\b(?:ai|llm|language model|assistant|chatbot)(?: (?:reading|processing|that reads|summarizing)){1,2} this\b"), 35),
    Phrase(_words(r"\bdo not (?:tell|inform|mention|alert|warn)(?: (?:this|it|to|the)){0,3} (?:user|human|anyone)\b"), 45),
    # -- other languages
    Phrase(_words(r"\b(?:ignoriere|ignorier|vergiss|missachte)(?: (?:alle|alles|sie|deine|die|bisherigen|vorherigen|obigen|vorigen)){0,4} (?:anweisungen|instruktionen|regeln|vorgaben|befehle)"), 80),
    Phrase(_words(r"\b(?:ignore|ignorez|oublie|oubliez)(?: (?:toutes?|les|tes|vos|tous)){0,3} (?:instructions|consignes|r[eè]gles)"), 80),
    Phrase(_words(r"\b(?:ignora|olvida|omite)(?: (?:todas?|las|tus|los|todos)){0,3} (?:instrucciones|reglas|indicaciones)"), 80),
    Phrase(_words(r"\b(?:ignora|dimentica)(?: (?:tutte|le|tue|ogni)){0,3} (?:istruzioni|regole)"), 80),
)  # fmt: skip
