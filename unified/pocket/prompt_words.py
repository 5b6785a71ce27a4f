"""The words of prompts: requests for sections and media, and those that no article can follow."""

from __future__ import annotations

import re

__all__ = ["FILLERS", "LEXICON", "NUMBER", "NUMBERS", "PICTURES", "PLAIN_PICTURES", "UNMET",
           "VOICE"]  # fmt: skip

# Patterns of words that ask for a section, and the headings they may mean: the first that the
# subject has.
LEXICON: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"(?:what (?:it|they) )?looks?(?: likes?)?|appears?|appearance|shapes?|colou?rs?"
        r"|how (?:big|large|small|tall)|sizes?|body|bodies|coat|fur|feathers",
        ("Appearance",),
    ),
    (
        r"homes?|habitats?|live|lives|living|lived|territor(?:y|ies)|where (?:it|they) (?:is|are)"
        r" found|native|range|nests?|nesting",
        ("Home",),
    ),
    (
        r"foods?|diets?|feed|feeds|feeding|prey|hunts?|hunting|meals?|appetite",
        ("Food", "Serving", "Uses"),
    ),
    (r"how to eat (?:it|them)|how (?:it is|they are|it's) eaten", ("Serving", "Uses", "Food")),
    (r"eat|eats|eating|eaten", ("Food", "Serving", "Uses")),
    (
        r"threats?|threatened|endangered|enem(?:y|ies)|predators?|conservation|protection"
        r"|extinction|survival",
        ("Threats", "People"),
    ),
    (r"dangers?|dangerous|risks?|harm|hazards?", ("Threats", "Effects")),
    (
        r"people|humans?|mankind|humanity|domestication|domesticated|pets?|society",
        ("People", "Culture"),
    ),
    (
        r"grow|grows|growing|grown|cultivation|cultivated|farming|farmed|harvest(?:ed|ing)?"
        r"|plant(?:ed|ing)",
        ("Growing", "Home"),
    ),
    (
        r"uses?|used|usage|useful|usefulness|purposes?|functions?|what (?:it is|they are|it's) for",
        ("Uses", "Serving", "People"),
    ),
    (
        r"made|making|(?:how )?to make|manufactur(?:e|ed|ing)|produc(?:ed|tion)"
        r"|prepar(?:ed|ation|ing)|cook(?:ed|ing)|bak(?:ed|ing)|brew(?:ed|ing)|recipes?|ingredients?|materials?",
        ("Making", "Building", "Growing"),
    ),
    (r"serve|serves|served|serving|toppings?|accompaniments?", ("Serving", "Uses")),
    (
        r"works?|working|worked|mechanisms?|operat(?:es?|ed|ion|ing)|mechanics|engines?|insides?",
        ("Working", "Playing"),
    ),
    (r"rules?|how to play|scoring|points|games?", ("Rules", "Playing")),
    (r"play|plays|played|playing|players?|techniques?", ("Playing", "Rules")),
    (r"sounds?|tones?|music|noises?", ("Sound",)),
    (
        r"buil[dt]|builds|buildings?|construct(?:ed|ion)|architecture|structures?",
        ("Building", "Making"),
    ),
    (
        r"causes?|caused|why (?:it|they) happens?|formation|formed|forming|how (?:it|they) forms?",
        ("Cause", "Building"),
    ),
    (r"effects?|impacts?|consequences?|damages?", ("Effects", "Threats")),
    (
        r"cultur(?:e|es|al)|myths?|mythology|legends?|folklore|symbols?|symbolism|meanings?"
        r"|religions?|arts?|traditions?|customs",
        ("Culture", "People", "History"),
    ),
    (r"origins?|where (?:it|they) (?:comes?|came) from", ("History", "Home", "Cause")),
    (
        r"histor(?:y|ies|ical)|pasts?|invent(?:ed|ion|ions|or|ors)|beginnings|ancient|evolution",
        ("History", "Culture"),
    ),
)

_NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBERS = {word: n for n, word in enumerate(_NUMBER_WORDS.split())}
NUMBERS |= {"a": 1, "an": 1, "a couple of": 2, "a few": 3, "several": 3, "a dozen": 12}
NUMBER = r"-?\d+|" + "|".join(sorted(map(re.escape, NUMBERS), key=len, reverse=True))
PICTURES = r"(?:pictures?|images?|photos?|photographs?|illustrations?|drawings?|pics?)"
VOICE = r"(?:narrations?|narrators?|audio|sounds?|voices?|voice-?overs?|speech|reading)"
# What articles of one length, one style and one language cannot follow.
_LENGTHS = (
    rf"(?:(?:about|at most|at least|under|over|in|fewer than|less than|more than|up to) )?"
    rf"(?:{NUMBER}|half a|one) (?:words?|sentences?|lines?|paragraphs?|pages?|minutes?)"
    r"|(?:(?:not )?(?:very|really|rather|quite|too|extra) )?(?:short|shorter|brief|briefly|long"
    r"|longer|lengthy|concise|succinct|compact|detailed|thorough|comprehensive|in-depth)"
    r"|in (?:great |much |more |full |some |every )?(?:detail|depth|brief|short)"
)
_READERS = (
    r"(?:for|to|aimed at) (?:(?:very|my|our|the|a|an|all|small|young|younger|little|older) )*"
    r"(?:children|child|kids?|toddlers?|beginners?|adults?|grown-ups|experts?|specialists?"
    r"|students?|pupils?|teenagers?|teens|seniors?|parents?|teachers?|tourists?|readers?|dummies"
    r"|everyone|everybody|school(?:s|children)?|kindergarten|bedtime"
    r"|(?:\d+|[a-z]+)[ -]years?[ -]olds?|grade(?:rs)?)"
    r"|child-friendly|kid-friendly|easy to (?:read|understand)"
)
_STYLES = (
    r"(?:as |like |in the (?:style|form|manner) of )?(?:an? )?(?:poem|poetry|rhymes?|song|story"
    r"|tale|fairy tale|fable|letter|diary|dialogue|interview|essay|summary|overview|list|quiz"
    r"|script|joke|haiku|sonnet|limerick)"
    r"|(?:very |more |really )?(?:funny|humorous|witty|serious|formal|informal|casual|poetic"
    r"|scientific|academic|dramatic|simple|simply|simpler|easy|easier|playful|exciting|cheerful)"
    r"|in (?:simple|easy|plain|your own|other) (?:words|language|english|terms)"
    r"|(?:in|into) (?:english|french|german|spanish|italian|portuguese|chinese|japanese|korean"
    r"|russian|arabic|hindi|latin|dutch|swedish|polish|turkish|rhyme|verse|bullet points)"
)
UNMET = re.compile(rf"(?<![\w-])(?:{_LENGTHS}|{_READERS}|{_STYLES})(?![\w-])")

# Said of pictures, and true of all that these models make.
_PICTURE_WORDS = """
    beautiful color colored colorful colour coloured colourful different exactly fine fitting good
    great lovely more nice other pretty some such suitable"""
PLAIN_PICTURES = frozenset(_PICTURE_WORDS.split())

# Words that ask for nothing by themselves.
_FILLER_WORDS = """
    a about above after all also always an and any are article articles as at be been before
    begin beginning being between both brief but by can chapter chapters close come comes complete
    conclude could cover covering create describe did do does each else end ending essay every
    everything exactly explain facts few finally finish first firstly following for from full get
    give had has have heading headings her here how however i i'd if in include including
    information into introduction is it it's its itself just kind know last lastly lead learn like
    little long make many me mention more much my need next nice not nothing now of off on one only
    open or order other our out over overview page paragraph paragraphs part parts piece please
    read report rest second secondly section sections set short should show simple so some
    something start starting story summary talk tell text than thanks that the their them themselves
    then there these they thing things third this those title to too topic topics towards under up
    upon us using very want was we well were what when where which while who why will wish with
    within without would write writing yes you your"""
FILLERS = frozenset(_FILLER_WORDS.split())
