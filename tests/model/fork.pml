/* SPDX-License-Identifier: Apache-2.0
 *
 * Model of R15 of docs/commit.md: history 0 ends, and one goes on from it. N roots; root 0 leads in
 * history 0 and need not know that it has ended; NEED are those whom its blocks wait for. A log is a
 * number of blocks, as one root wrote them all. A person may ask any root that does not lead to fork,
 * at any time, up to TRIES times. Roots can be reached or not, which changes up to TURNS times: who
 * cannot be reached may live and go on. Acknowledgements are acted upon later, requests land when they
 * like. A try's number stands for its epoch, and for the history that it makes.
 *
 * It shows: what history 0 ever commits by the help of a root that could be reached when another
 * history was begun is in that one; and one of the tries that read the same record begins one.
 */
#ifndef N
#define N 3
#endif
#ifndef L
#define L 3
#endif
#ifndef TRIES
#define TRIES 2
#endif
#ifndef TURNS
#define TURNS 2
#endif
#ifndef NEED
#define NEED 3
#endif

#define BIT(r) (1 << (r))
#define ALL (BIT(N) - 1)

#define ASKED 1  /* promised, its check-and-set is under way */
#define NAMED 2  /* the record names it: it gathers */
#define FORKED 3

/* Roots: blocks on disk, the history they are of, the try that is promised (0: root 0's epoch). */
byte blocks[N], hist[N], promise[N];
byte said[N], acked[N]; /* to root 0; what it has heard of that */
bool leads = true;      /* root 0 */
byte committed;         /* in history 0 */
byte gen = 1, named;    /* the record: its generation, and whose history, 0 = history 0 */
byte tries, state[TRIES + 1], owner[TRIES + 1], base[TRIES + 1], got[TRIES + 1];
byte reached[TRIES + 1], has[TRIES + 1]; /* when it forked: who could be reached, its blocks */
byte away, turns, crashes;
byte a, n;

inline check() {
    for (a : 1 .. TRIES) {
        assert(state[a] != FORKED || (NEED & reached[a]) == 0 || committed <= has[a])
    }
}

inline ask(r) {
    tries++;
    state[tries] = ASKED;
    owner[tries] = r;
    base[tries] = gen;
    got[tries] = BIT(r);
    promise[r] = tries
}

inline land(t) {
    if
#ifdef M_ANY_RECORD
    :: true ->
#else
    :: base[t] == gen ->
#endif
        gen++;
        named = t;
        state[t] = NAMED
    :: else -> state[t] = 0
    fi
}

/* Root r promises try t, and brings its log. */
inline gather(t, r) {
    got[t] = got[t] | BIT(r);
#ifndef M_NO_PROMISE
    promise[r] = t;
#endif
#ifndef M_OWN_LOG
    if
    :: blocks[r] > blocks[owner[t]] -> blocks[owner[t]] = blocks[r]
    :: else -> skip
    fi
#endif
}

#ifdef M_NO_WAIT
#define GATHERED(t) true
#else
#define GATHERED(t) ((ALL & ~away & ~got[t]) == 0)
#endif

inline fork(t) {
    for (a : 1 .. TRIES) {
        assert(state[a] != FORKED) /* one of those that read the same record */
    }
#ifdef M_NEVER_FORKED
    assert(committed == 0 || blocks[owner[t]] == committed);
#endif
    state[t] = FORKED;
    reached[t] = ALL & ~away | BIT(owner[t]);
    has[t] = blocks[owner[t]];
    hist[owner[t]] = t;
    check()
}

inline commit() {
    n = L;
    for (a : 0 .. N - 1) {
        if
        :: (NEED & BIT(a)) && a != 0 && acked[a] < n -> n = acked[a]
        :: (NEED & BIT(a)) && a == 0 && blocks[0] < n -> n = blocks[0]
        :: else -> skip
        fi
    }
    committed = (n > committed -> n : committed);
    check();
    n = 0;
    a = 0
}

proctype Root(byte i) {
    do
    :: d_step { i == 0 && leads && hist[0] == 0 && promise[0] == 0 && blocks[0] < L -> blocks[0]++ }
    :: d_step { i == 0 && leads && hist[0] == 0 && promise[0] == 0 -> commit() }
    :: d_step { i == 0 && leads -> leads = false }
    :: d_step { i != 0 && leads && hist[i] == 0 && promise[i] == 0 && blocks[i] < blocks[0] ->
        blocks[i]++;
        said[i] = blocks[i] }
    :: d_step { i != 0 && leads && acked[i] < said[i] -> acked[i] = said[i] }
    :: d_step { !(i == 0 && leads) && tries < TRIES && hist[i] == 0 && named == 0 -> ask(i) }
#ifdef M_NOT_DURABLE
    :: d_step { crashes < 1 && promise[i] != 0 && hist[i] == 0 && owner[promise[i]] != i ->
        crashes++;
        promise[i] = 0 }
#endif
    od
}

#define BRING(t, r) :: d_step { state[t] == NAMED && hist[r] == 0 && !(got[t] & BIT(r)) && \
                                !(away & BIT(r)) && promise[r] < t -> gather(t, r) }
#define TRY(t) :: d_step { state[t] == ASKED -> land(t) } \
               BRING(t, 0) BRING(t, 1) BRING(t, 2) \
               :: d_step { state[t] == NAMED && promise[owner[t]] == t && GATHERED(t) -> fork(t); a = 0 }

proctype World() {
    do
    TRY(1)
#if TRIES > 1
    TRY(2)
#endif
    :: d_step { turns < TURNS -> turns++; away = away ^ 1 }
    :: d_step { turns < TURNS -> turns++; away = away ^ 2 }
    :: d_step { turns < TURNS -> turns++; away = away ^ 4 }
    od
}

init {
    atomic {
        run Root(0);
        run Root(1);
        run Root(2);
        run World()
    }
}
