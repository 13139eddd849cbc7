"""Which models may answer a request, and in which order: what it names and needs, what is allowed, and what money is left."""

from __future__ import annotations

from time import perf_counter

from jaxroute.errors import listed, shortened
from jaxroute.serve.asking import AUTO, Asked
from jaxroute.serve.choosing import Candidate, FixedPace, Ranked, by_price
from jaxroute.serve.clients import ServedClient
from jaxroute.serve.conversations import Warm
from jaxroute.serve.finished import Finished
from jaxroute.serve.headers import OWN, Wishes
from jaxroute.serve.refusals import Refused, invalid
from jaxroute.serve.service import Service
from jaxroute.serve.state import State


class Ordering:
    """For one request of one client: `await models(asked, wishes)`."""

    def __init__(self, service: Service, state: State, client: ServedClient | None, finished: Finished) -> None:
        # The state with which the request began: the service's may have been exchanged since.
        self.service, self.state = service, state
        self.client, self.finished = client, finished
        self.client_name = None if client is None else client.name

    async def models(self, asked: Asked, wishes: Wishes) -> list[Ranked]:
        """The models to try, best first. Raises `Refused` where there is none."""
        if asked.model != AUTO:
            return [self._named(asked, wishes)]
        self.finished.routed = True
        if asked.kind == "embedding":
            raise invalid(
                f"Embeddings of different models cannot be compared, so {AUTO!r} chooses none: name a model.", "model"
            )
        if asked.continues:
            return [self._stored(asked, wishes)]
        candidates = self._candidates(asked, wishes)
        pace = self.state.pace_of(self.client_name)
        multiplier = pace.multiplier
        assert self.state.chooser is not None
        begun = perf_counter()
        if len(candidates) == 1:
            order = by_price(candidates)
        else:
            order = await self.state.chooser.rank(asked, candidates, multiplier, wishes.minimum_quality)
            pace.saw(order)
            order = self._affordable(asked, order)
        self.finished.routing_seconds = perf_counter() - begun
        self.service.places.wanted(self.state.upstreams[order[0].candidate.model])
        # Nobody waits for a model that is at its limits while another is free.
        paused = self.service.pauses.among([one.candidate.model for one in order])
        order.sort(key=lambda one: one.candidate.model in paused or self.state.upstreams[one.candidate.model].limits.full)
        return order[: self.state.config.tries]

    def no_money(self, worst_case_usd: float, lowest_usd: float | None = None) -> Refused:
        """Why a request is refused whose worst case does not fit any more; `lowest_usd` is that of its cheapest answer."""
        lowest = worst_case_usd if lowest_usd is None else lowest_usd
        pace = self.state.pace_of(self.client_name)
        when = self.state.accounts.next_window(self.client_name, pace, worst_case_usd, lowest)
        until = "no later window has more" if when is None else f"the next window begins at {when:%Y-%m-%dT%H:%M:%SZ}"
        headers = {} if when is None else {f"{OWN}next-window": f"{when:%Y-%m-%dT%H:%M:%SZ}"}
        fits = worst_case_usd <= self.state.accounts.most_usd(self.client_name, FixedPace(), lowest)
        kept = " beside what is kept for cheaper answers" if fits else ""
        return Refused(
            402,
            "budget_exhausted",
            f"The request may cost {worst_case_usd:.6g} dollars, and the budget has less left{kept}; {until}.",
            headers=headers,
        )

    def _named(self, asked: Asked, wishes: Wishes) -> Ranked:
        model = asked.model
        allowed = self._allowed(wishes)
        if model not in self.state.upstreams or (self.client and self.client.models and model not in self.client.models):
            names = [*([AUTO] if self.state.routed else []), *sorted(self._allowed(Wishes()))]
            raise Refused(
                404, "model_not_found", f"The model {shortened(model)} does not exist here: ask {listed(names)}.", param="model"
            )
        if model not in allowed:
            raise invalid(f"The model {shortened(model)} is none of those that {OWN}models names.", "model")
        previous = asked.body.get("previous_response_id")
        place = self.service.stored.get(previous) if isinstance(previous, str) else None
        if place is not None and place.client != self.client_name:
            raise invalid("No response of yours with that id is known.", "previous_response_id")
        candidate = self._candidate(asked, model)
        self._check_bounded(candidate)
        self._fitting(asked, self._within_wish(wishes, [candidate]))
        self.service.places.wanted(self.state.upstreams[model])
        return Ranked(candidate)

    def _stored(self, asked: Asked, wishes: Wishes) -> Ranked:
        """What continues a stored response stays where it is stored, and is its client's alone."""
        previous = asked.body.get("previous_response_id")
        place = self.service.place(previous, self.client_name) if isinstance(previous, str) else None
        if place is None or place.model not in self._allowed(wishes):
            raise invalid(
                f"The request continues what is stored at one endpoint, and it is not known here at which: name the model "
                f"in place of {AUTO!r}.",
                "previous_response_id",
            )
        candidate = self._candidate(asked, place.model)
        self._check_bounded(candidate)
        # No other model can answer it: like the cheapest answer of another request, it may take all that is left, which is
        # seen when it is held.
        self._within_wish(wishes, [candidate])
        return Ranked(candidate)

    def _candidates(self, asked: Asked, wishes: Wishes) -> list[Candidate]:
        routed = self.state.routed
        if not routed:
            raise invalid(
                f"Nothing is routed here, as the proxy has no checkpoint: name a model in place of {AUTO!r}.", "model"
            )
        allowed = self._allowed(wishes)
        if unknown := [name for name in wishes.models or () if name not in self.state.upstreams]:
            raise invalid(
                f"{OWN}models names {listed(unknown)}; there are {listed(sorted(allowed) or routed)}.", f"{OWN}models"
            )
        models = [model for model in routed if model in allowed]
        if not models:
            raise invalid(f"None of the models that are allowed is routed: those are {listed(routed)}.", f"{OWN}models")
        able = [model for model in models if asked.fits(self.state.upstreams[model].endpoint)]
        if not able:
            need = f" accepts {listed(asked.needs)}" if asked.needs else " has so long a context"
            raise invalid(f"No model of {listed(models)}{need}.", "model", code="unsupported")
        caches = any(self.state.upstreams[model].endpoint.price.cached_input is not None for model in able)
        warm = self.service.conversations.find(asked, self.client_name) if caches else None
        candidates = [self._candidate(asked, model, warm) for model in able]
        if self.state.accounts.counts(self.client_name):
            bounded = [one for one in candidates if one.worst_case_usd is not None]
            if not bounded:
                self._check_bounded(candidates[0])
            candidates = bounded
        candidates = self._within_wish(wishes, candidates)
        fitting = self._fitting(asked, candidates)
        # The price of a promise is no pace, and its chooser counts the requests for which a promised model does not fit. Others
        # are ranked as a whole, since the pace learns from what was too expensive too.
        return candidates if self.state.promise is None else fitting

    def _candidate(self, asked: Asked, model: str, warm: Warm | None = None) -> Candidate:
        endpoint = self.state.upstreams[model].endpoint
        saved = 0.0 if warm is None else warm.saved_usd(endpoint)
        # A promise was made of choices without tolls.
        toll = 0.0 if self.state.promise is not None else self.service.places.toll(model)
        return Candidate(endpoint, asked.worst_case_usd(endpoint), saved, toll)

    def _allowed(self, wishes: Wishes) -> set[str]:
        allowed = set(self.state.upstreams)
        if self.client is not None and self.client.models is not None:
            allowed &= self.client.models
        return allowed if wishes.models is None else allowed & set(wishes.models)

    def _check_bounded(self, candidate: Candidate) -> None:
        if candidate.worst_case_usd is None and self.state.accounts.counts(self.client_name):
            raise invalid(
                f"Nothing bounds what the request costs at {candidate.model}: images and stored conversations need its "
                "context_tokens in models.yaml.",
                code="unbounded_cost",
            )

    def _within_wish(self, wishes: Wishes, candidates: list[Candidate]) -> list[Candidate]:
        """Those whose worst case the client allows. Raises `Refused` where there is none."""
        most = wishes.max_cost_usd
        if most is None:
            return candidates
        cheap = [one for one in candidates if one.worst_case_usd is not None and one.worst_case_usd <= most]
        if not cheap:
            least = min((one.worst_case_usd for one in candidates if one.worst_case_usd is not None), default=None)
            need = "nothing bounds the cost of this request"
            if least is not None:
                need = f"this request may cost {least:.6g} dollars, and less with a lower limit of output tokens"
            raise Refused(402, "max_cost_exceeded", f"No model is certain to cost at most {most:g} dollars; {need}.")
        return cheap

    def _fitting(self, asked: Asked, candidates: list[Candidate]) -> list[Candidate]:
        """Those whose worst case fits into what is left beside what is kept for requests to come. Raises `Refused` where none
        does.

        The cheapest answer that could be routed to may take all that is left, and so may what costs no more. Who asks for one
        model, by its name or by a header, can be asked for no cheaper one, and is refused what is kept for others.
        """
        accounts, pace = self.state.accounts, self.state.pace_of(self.client_name)
        if not accounts.counts(self.client_name):
            return candidates
        worst = [one.worst_case_usd or 0.0 for one in candidates]
        if max(worst) <= accounts.most_usd(self.client_name, pace, 0.0):
            return candidates
        lowest = self._lowest(asked, min(worst))
        most = accounts.most_usd(self.client_name, pace, lowest)
        if min(worst) > most:
            raise self.no_money(min(worst), lowest)
        return [one for one, usd in zip(candidates, worst, strict=True) if usd <= most]

    def _lowest(self, asked: Asked, otherwise: float) -> float:
        """The worst case of the cheapest answer that the client could get, whatever it wishes; `otherwise` where nothing is
        routed."""
        allowed = self._allowed(Wishes())
        endpoints = [self.state.upstreams[model].endpoint for model in self.state.routed if model in allowed]
        worst = [asked.worst_case_usd(endpoint) for endpoint in endpoints if asked.fits(endpoint)]
        return min((one for one in worst if one is not None), default=otherwise)

    def _affordable(self, asked: Asked, order: list[Ranked]) -> list[Ranked]:
        """The same order, of those that fit now that they are ranked."""
        fitting = {one.model for one in self._fitting(asked, [one.candidate for one in order])}
        return [one for one in order if one.candidate.model in fitting]
