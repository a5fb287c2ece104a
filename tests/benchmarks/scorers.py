"""Rivals that practitioners use. Each learns from all events before a window, and answers the same
requests as our models; what depends on the user alone is read from the request's own history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_lib.model.histories import Floats, Histories, Ints

Matrix = sp.csr_matrix
SLICE = 512


@dataclass(frozen=True)
class Events:
    """All events before a window, by user and then by time. user, item int32; at float64."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    at: NDArray[np.float64]
    items: int
    now: int

    @property
    def users(self) -> int:
        return int(self.user.max(initial=-1)) + 1


class MatrixScorer:
    """Ranks by dense scores that a subclass makes of a few histories at a time."""

    name = "matrix"

    def __init__(self, items: int) -> None:
        self.items = items

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """float32 [B, N + 1]"""
        raise NotImplementedError

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        """See `Scorer.top_k`."""
        from recsys_lib.model.requests import select

        items, best = [], []
        for start in range(0, len(histories), SLICE):
            part = select(histories, np.arange(start, min(start + SLICE, len(histories))))
            scores = self.scores(part)
            scores[:, 0] = -np.inf
            if exclude_seen:
                known = part.items <= self.items
                scores[part.row[known], part.items[known]] = -np.inf
            top = np.argpartition(-scores, k, axis=1)[:, :k]
            found = np.take_along_axis(scores, top, 1)
            order = np.argsort(-found, axis=1, kind="stable")
            items.append(np.take_along_axis(top, order, 1).astype(np.int32))
            best.append(np.take_along_axis(found, order, 1))
        return np.concatenate(items), np.concatenate(best)


def taken(histories: Histories, items: int, decay: float) -> Matrix:
    """[B, N + 1]: visits in which the user took the item, each worth decay ** its age."""
    events = _distinct(histories.row, histories.items, histories.at, items)
    row, item, at = events
    age = np.floor(histories.now[row]) - np.floor(at)
    weight = decay ** np.nan_to_num(np.clip(age, 0, None))
    return sp.csr_matrix((weight, (row, item)), shape=(len(histories), items + 1))


def counted(events: Events, decay: float) -> Matrix:
    """The same [U, N + 1] for all users, as of the events' own `now`."""
    user, item, at = _distinct(events.user, events.item, events.at, events.items)
    weight = decay ** np.clip(events.now - np.floor(at), 0, None)
    return sp.csr_matrix((weight, (user, item)), shape=(events.users, events.items + 1))


def _distinct(
    row: NDArray, item: NDArray, at: NDArray, items: int
) -> tuple[NDArray, NDArray, NDArray]:
    keep = (item > 0) & (item <= items)
    row, item, at = row[keep], item[keep], at[keep].astype(np.float64)
    order = np.lexsort((at, item, row))
    row, item, at = row[order], item[order], at[order]
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]) | (item[1:] != item[:-1]) | (at[1:] != at[:-1])
    return row[new], item[new], at[new]


class Ease(MatrixScorer):
    """EASE (Steck 2019) over the items with most buyers; the rest scores nothing.

    Popularity breaks ties and fills up. `log` takes the log of counts, which suits new items.
    """

    def __init__(
        self, events: Events, penalty: float, decay: float, log: bool, kept: int, name: str
    ) -> None:
        super().__init__(events.items)
        self.name, self.decay, self.log = name, decay, log
        x = self._shaped(counted(events, decay))
        buyers = np.asarray((x > 0).sum(0)).ravel()
        buyers[0] = 0
        self.front = np.sort(np.argsort(-buyers, kind="stable")[:kept])
        x = x[:, self.front].astype(np.float32)
        gram = (x.T @ x).toarray()
        gram[np.diag_indices_from(gram)] += penalty
        inverse = np.linalg.inv(gram)
        self.weights = inverse / -np.diag(inverse)
        np.fill_diagonal(self.weights, 0.0)
        self.popular = (buyers / (1e6 * max(1, buyers.max()))).astype(np.float32)

    def _shaped(self, x: Matrix) -> Matrix:
        return x.log1p() if self.log else x

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        x = self._shaped(taken(histories, self.items, self.decay))[:, self.front]
        out = np.repeat(self.popular[None], len(histories), 0)
        out[:, self.front] += x.astype(np.float32) @ self.weights
        return out


class TifuKnn(MatrixScorer):
    """TIFU-kNN (Hu, He, Gao, Zhang 2020): decayed baskets in decayed groups, mixed with the mean
    of the users most alike."""

    name = "tifu_knn"

    def __init__(
        self,
        events: Events,
        group: int = 12,
        within: float = 0.97,
        between: float = 0.8,
        neighbours: int = 300,
        own: float = 0.7,
    ) -> None:
        super().__init__(events.items)
        self.group, self.within, self.between = group, within, between
        self.neighbours, self.own = neighbours, own
        self.users = self._vectors(events.user, events.item, events.at, events.users)
        self.lengths = np.sqrt(np.asarray(self.users.multiply(self.users).sum(1)).ravel()) + 1e-9
        buyers = np.asarray((self.users > 0).sum(0)).ravel()
        self.popular = (buyers / (1e6 * max(1, buyers.max()))).astype(np.float32)

    def _vectors(self, row: NDArray, item: NDArray, at: NDArray, rows: int) -> Matrix:
        row, item, at = _distinct(row, item, at, self.items)
        visits, place = np.unique(np.stack([row, at]), axis=1, return_inverse=True)
        visitor = visits[0].astype(np.int64)
        count = np.bincount(visitor, minlength=rows)
        ends = np.cumsum(count)
        back = ends[visitor] - 1 - np.arange(len(visitor))
        groups = -(-count // self.group)
        weight = self.within ** (back % self.group) * self.between ** (back // self.group)
        weight /= np.minimum(self.group, count)[visitor] * np.maximum(groups, 1)[visitor]
        return sp.csr_matrix(
            (weight[place.ravel()].astype(np.float32), (row, item)), shape=(rows, self.items + 1)
        )

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        mine = self._vectors(histories.row, histories.items, histories.at, len(histories))
        alike = (mine @ self.users.T).toarray() / self.lengths
        # The user is among the users, and most alike.
        best = np.argpartition(-alike, self.neighbours + 1, axis=1)[:, : self.neighbours + 1]
        nearness = np.take_along_axis(alike, best, 1)
        best = np.take_along_axis(best, np.argsort(-nearness, axis=1), 1)[:, 1:]
        rows = np.repeat(np.arange(len(histories)), best.shape[1])
        mean = sp.csr_matrix(
            (np.full(best.size, 1 / self.neighbours, np.float32), (rows, best.ravel())),
            shape=(len(histories), self.users.shape[0]),
        )
        out = self.own * mine + (1 - self.own) * (mean @ self.users)
        return np.asarray(out.toarray() + self.popular, np.float32)


class Als(MatrixScorer):
    """Implicit ALS of the library `implicit`; the user is folded in from the request's history."""

    name = "als"

    def __init__(self, events: Events, factors: int = 64, decay: float = 0.95) -> None:
        from implicit.cpu.als import AlternatingLeastSquares

        super().__init__(events.items)
        self.decay = decay
        self.model = AlternatingLeastSquares(factors=factors, iterations=15, random_state=7)
        self.model.fit(counted(events, decay).astype(np.float32), show_progress=False)

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        mine = taken(histories, self.items, self.decay).astype(np.float32)
        users = self.model.recalculate_user(np.arange(len(histories)), mine)
        return np.asarray(users @ self.model.item_factors.T, np.float32)


class SessionKnn(MatrixScorer):
    """Items of the sessions that share most with this one, the latest clicks counting most
    (V-SkNN: Ludewig and Jannach 2018)."""

    name = "session_knn"

    def __init__(self, events: Events, sampled: int = 1000, neighbours: int = 100) -> None:
        super().__init__(events.items)
        self.sampled, self.neighbours = sampled, neighbours
        ones = np.ones(len(events.item), np.float32)
        shape = (events.users, events.items + 1)
        self.sessions = sp.csr_matrix((ones, (events.user, events.item)), shape=shape)
        self.sessions.data[:] = 1
        self.lengths = np.sqrt(np.asarray(self.sessions.sum(1)).ravel()) + 1e-9
        latest = np.zeros(events.users)
        np.maximum.at(latest, events.user, events.at)
        self.latest = latest
        self.by_item = self.sessions.T.tocsr()
        share = np.maximum(np.asarray(self.sessions.sum(0)).ravel(), 1)
        self.idf = np.log(events.users / share).astype(np.float32)

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        out = np.zeros((len(histories), self.items + 1), np.float32)
        for i in range(len(histories)):
            mine = histories.items[histories.offsets[i] : histories.offsets[i + 1]]
            mine = mine[(mine > 0) & (mine <= self.items)]
            if not len(mine):
                continue
            unique, back = np.unique(mine[::-1], return_index=True)
            weight = (1.0 - back / len(mine)).astype(np.float32)
            rows = self.by_item[unique]
            met = np.unique(rows.indices)
            if len(met) > self.sampled:
                met = met[np.argpartition(-self.latest[met], self.sampled)[: self.sampled]]
            alike = np.asarray(self.sessions[met][:, unique] @ weight) / self.lengths[met]
            if len(met) > self.neighbours:
                best = np.argpartition(-alike, self.neighbours)[: self.neighbours]
                met, alike = met[best], alike[best]
            out[i] = np.asarray(alike @ self.sessions[met]).ravel() * self.idf
        return out
