"""Articles: sections, wishes, facts, captions and their pictures, and how much is recited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unified.evaluation.article_wishes import WISHED, ArticleWish
from unified.evaluation.figures import MeasuredFigure, mean, rate, share
from unified.evaluation.part import REFUSED, Asked, Bench, JudgedCase, Part, PartResult
from unified.evaluation.part_drawing import drawn_judge, judged
from unified.evaluation.scene_judge import SceneJudge
from unified.evaluation.written_article import WrittenArticle, distinct_n, wanted_of
from unified_data.document import Document
from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.world.chinese import chinese_names
from unified_data.world.retrieval import fact_index, retrieval_error
from unified_data.world.wordings import Language

__all__ = ["ARTICLES", "article_figures", "caption_is_shown"]

_LENGTHS = (200, 500, 900)
_TOLERANCE = 0.25
_DEMO_LEAST = 800
_DEMO = {
    "panda": "The giant panda: nature's gentle envoy. At least 800 characters. First its looks and"
    " habits, then its habitat and the threats to it, its protection, and its influence on culture."
    " With pictures.",
    "panda, Chinese": "熊猫：自然界的温柔使者。至少800字，先写外形与习性，"
    "再写栖息地与威胁、保护、文化影响，配图。",
}
"""The demonstration of the field, in both languages: four sections, 800 characters, pictures."""
_DEMO_SECTIONS = 4
_PLAIN = "plain"


@dataclass(frozen=True, eq=False)
class _Order:
    """An article asked for. wish, headings, characters: what was asked beside the subject."""

    condition: str
    prompt: str
    subject: Subject
    headings: tuple[str, ...] = ()
    characters: int = 0
    wish: ArticleWish | None = None


def _orders(bench: Bench, condition: str) -> list[_Order]:
    rng = bench.rng("articles", condition)
    everything = load_subjects()
    if condition in _DEMO:
        panda = next(each for each in everything if each.name == "giant panda")
        return [_Order(condition, _DEMO[condition], panda, characters=_DEMO_LEAST)]
    orders = []
    order = rng.permutation(len(everything))
    for case in range(bench.cases):
        subject = everything[int(order[case % len(order)])]
        if condition == "sections":
            names = [section.heading for section in subject.sections]
            chosen = tuple(names[int(i)] for i in rng.permutation(len(names))[:2])
            text = f"The {subject.name}. First {', then '.join(chosen).lower()}."
            orders.append(_Order(condition, text, subject, chosen))
        elif condition == "wishes":
            wish = list(WISHED.values())[case % len(WISHED)](subject, rng)
            orders.append(_Order(condition, wish.prompt, subject, wish=wish))
        elif condition == "length":
            number = _LENGTHS[case % len(_LENGTHS)]
            text = f"The {subject.name}. About {number} characters."
            orders.append(_Order(condition, text, subject, characters=number))
        elif condition == "Chinese":
            orders.append(_Order(condition, f"{chinese_names()[subject.name].name}。", subject))
        else:
            orders.append(_Order(condition, f"The {subject.name}", subject))
    return orders


def _measure(bench: Bench) -> PartResult:
    judge = drawn_judge()
    figures: list[MeasuredFigure] = []
    samples: list[JudgedCase] = []
    missing: dict[str, str] = {}
    for condition in bench.conditions:
        orders = _orders(bench, condition)
        requests = [bench.request("write", text=order.prompt) for order in orders]
        refused = [each for each in requests if isinstance(each, str)]
        if len(refused) == len(requests):
            missing[condition] = refused[0].removeprefix(REFUSED).partition(";")[0]
            continue
        articles = _written(bench, orders, requests)
        more, cards = _judged(bench, condition, orders, requests, articles, judge)
        figures += more
        samples += cards
        if condition == _PLAIN:
            figures += _two_seeds(bench, orders, requests, articles)
    if not figures:
        return PartResult(cannot=next(iter(missing.values())))
    return PartResult(tuple(figures), _of_judge(bench), tuple(samples), missing=missing)


def _written(
    bench: Bench, orders: Sequence[_Order], requests: Sequence[Asked], later: int = 0
) -> list[WrittenArticle | str]:
    """An article for every order, or why there is none. later: added to the seed."""
    seeds = [bench.seed + later] * len(requests)
    results = bench.complete(requests, seeds)
    return [
        WrittenArticle(result, order.subject) if isinstance(result, Document) else result
        for result, order in zip(results, orders)
    ]


def _notes(request: Asked, article: WrittenArticle | str) -> str:
    """What the model says of an order, before and after it wrote."""
    if isinstance(request, str):
        return request
    finished = () if isinstance(article, str) else request.finish(article.document)
    return "; ".join([*request.notes, *finished])


def _judged(
    bench: Bench,
    condition: str,
    orders: Sequence[_Order],
    requests: Sequence[Asked],
    articles: Sequence[WrittenArticle | str],
    judge: SceneJudge,
) -> tuple[list[MeasuredFigure], list[JudgedCase]]:
    language: Language = "zh" if condition.endswith("Chinese") else "en"
    plain = _plain_of(bench, orders, requests) if condition == "wishes" else [None] * len(orders)
    outcomes, samples = [], []
    for order, request, article, without in zip(orders, requests, articles, plain):
        right, told = _as_asked(order, request, article, without, language)
        outcomes.append(right)
        picture = None
        if not isinstance(article, str) and article.figures:
            picture = article.figures[0].image.pixels
        samples.append(
            JudgedCase(condition, f"write: {order.prompt}", _expected(order), told, right, picture)
        )
    figures = []
    if condition != "Chinese" and condition != _PLAIN:
        names = {
            "sections": "sections, as asked", "wishes": "wishes, honoured or named",
            "length": "length, as asked or named",
        }  # fmt: skip
        figures.append(share(names.get(condition, f"{condition}, as asked"), outcomes))
    written = [article for article in articles if not isinstance(article, str)]
    if written and condition in (_PLAIN, "sections", "Chinese", *_DEMO):
        figures += article_figures(condition, written, judge, language)
    return figures, samples


def _plain_of(
    bench: Bench, orders: Sequence[_Order], requests: Sequence[Asked]
) -> list[WrittenArticle | None]:
    """Articles of the same subjects without a wish, where something has to be compared to them."""
    needed = [
        order.wish is not None
        and not isinstance(request, str)
        and not order.wish.is_named(_notes(request, ""))
        and any(word in order.prompt for word in ("Short", "Long", "children"))
        for order, request in zip(orders, requests)
    ]
    asked: list[Asked] = [
        bench.request("write", text=f"The {order.subject.name}") if wanted else ""
        for order, wanted in zip(orders, needed)
    ]
    return [
        article if isinstance(article, WrittenArticle) else None
        for article in _written(bench, orders, asked)
    ]


def _as_asked(
    order: _Order,
    request: Asked,
    article: WrittenArticle | str,
    plain: WrittenArticle | None,
    language: Language,
) -> tuple[bool, str]:
    """Whether an article is what was asked for, or what it is not was named; and what came."""
    notes = _notes(request, article)
    if isinstance(article, str):
        return False, article
    told = f"{' / '.join(article.headings)}; {article.characters} characters"
    told = f"{told}; {len(article.figures)} pictures" + (f"; says: {notes}" if notes else "")
    if order.headings:
        return article.headings == order.headings, told
    if order.wish is not None:
        return order.wish.is_named(notes) or order.wish.honoured(article, plain), told
    if order.condition in _DEMO:
        enough = article.characters >= order.characters and len(article.figures) > 0
        return enough and len(article.headings) >= _DEMO_SECTIONS, told
    if order.characters:
        near = abs(article.characters - order.characters) <= _TOLERANCE * order.characters
        return near or str(order.characters) in notes, told
    statements = article.statements(language)
    return bool(statements) and all(each.is_of(order.subject) for each in statements), told


def _expected(order: _Order) -> str:
    if order.headings:
        return " / ".join(order.headings)
    if order.wish is not None:
        return "honoured, or named"
    if order.condition in _DEMO:
        return f"{_DEMO_SECTIONS} sections, {order.characters} characters, pictures"
    if order.characters:
        return f"{order.characters} characters, or named"
    return "facts of the subject alone"


def article_figures(
    condition: str, articles: Sequence[WrittenArticle], judge: SceneJudge, language: Language
) -> list[MeasuredFigure]:
    """Facts, recitation, captions and pictures of some articles, at least one."""
    stated = [article.statements(language) for article in articles]
    sizes = [len(statements) for statements in stated]

    def counted(name: str, good: bool, number: list[int]) -> MeasuredFigure:
        better = "higher" if good else "lower"
        return rate(f"{condition}, {name}", number, sizes, "share", better)

    own = [
        sum(each.is_of(article.subject) for each in statements)
        for article, statements in zip(articles, stated)
    ]
    nowhere = [sum(each.is_nowhere(language) for each in statements) for statements in stated]
    other = [size - mine - lost for size, mine, lost in zip(sizes, own, nowhere)]
    verbatim = [sum(each.verbatim for each in statements) for statements in stated]
    figures = [
        counted("facts of the subject", True, own),
        counted("facts of another, or altered", False, other),
        counted("sentences that are nowhere", False, nowhere),
        counted("verbatim", False, verbatim),
    ]
    captions = [
        caption_is_shown(judge, figure.caption, figure.image.pixels)
        for article in articles
        for figure in article.figures
    ]
    if captions:
        figures.append(share(f"{condition}, pictures that show their caption", captions))
        repeated = [article.repeats_a_picture for article in articles]
        name = f"{condition}, articles with two equal pictures"
        figures.append(share(name, repeated, better="lower"))
    texts = [" ".join(article.sentences) for article in articles]
    values = distinct_n(texts, 2, language == "zh")
    if np.isfinite(values):
        each = [distinct_n([text], 2, language == "zh") for text in texts]
        own_values = [value for value in each if np.isfinite(value)]
        figures.append(mean(f"{condition}, distinct-2 of an article", own_values))
    figures.append(
        mean(f"{condition}, characters", [float(a.characters) for a in articles], "count")
    )
    return figures


def caption_is_shown(judge: SceneJudge, caption: str, pixels: np.ndarray) -> bool:
    """Whether a picture shows what its caption names; one that cannot be read is not shown."""
    wanted = wanted_of(caption)
    return wanted is not None and judged(judge, wanted, pixels).things


def _two_seeds(
    bench: Bench,
    orders: Sequence[_Order],
    requests: Sequence[Asked],
    articles: Sequence[WrittenArticle | str],
) -> list[MeasuredFigure]:
    """What a second seed changes: texts and pictures that are the same again."""
    again = _written(bench, orders, requests, later=1)
    texts: list[bool] = []
    pictures: list[bool] = []
    for first, second in zip(articles, again):
        if isinstance(first, str) or isinstance(second, str):
            continue
        texts.append(first.sentences == second.sentences)
        cards = {figure.image.pixels.tobytes() for figure in first.figures}
        pictures += [figure.image.pixels.tobytes() in cards for figure in second.figures]
    figures = []
    for name, outcomes in (("text", texts), ("pictures", pictures)):
        if outcomes:
            label = f"plain, the same {name} with another seed"
            figures.append(share(label, outcomes, better="lower"))
    return figures


def _of_judge(bench: Bench) -> tuple[MeasuredFigure, ...]:
    """Of true sentences in a wording that it does not know (of the same fact it has others) those
    not called that fact, and those of another subject of the kind that are called facts."""
    figures = []
    languages: tuple[tuple[str, Language], ...] = (("", "en"), (", Chinese", "zh"))
    for condition, language in languages:
        if condition and not any(name.endswith("Chinese") for name in bench.conditions):
            continue
        every = max(1, len(fact_index(language).wordings) // (20 * max(1, bench.cases)))
        error = retrieval_error(language, every)
        wrong = {
            "true sentences in an unknown wording not called facts": error.cases - error.recognised,
            "another subject's sentences called facts": error.misattributed,
        }
        for name, number in wrong.items():
            outcomes = [True] * number + [False] * (error.cases - number)
            figures.append(share(f"{name}{condition}", outcomes, better="lower"))
    return tuple(figures)


ARTICLES = Part(
    "articles",
    "Articles hold the sections asked for, facts of their subject, pictures that show their"
    " captions, and every wish, or the model names what it cannot.",
    ("write",),
    (_PLAIN, "sections", "wishes", "length", "panda", "Chinese", "panda, Chinese"),
    _measure,
)
