/* SPDX-License-Identifier: Apache-2.0
 *
 * Model of docs/commit.md: N roots, a linearizable key-value store with check-and-set that may lose
 * its data, blocks that carry nothing but the name of the leadership that wrote them.
 *
 * Every step of a root is one transition, and any enabled one may come next. So a pause, a partition
 * and a slow link are all the same thing, a step that does not happen for a while; "the leader is
 * gone" may be believed at any time; and messages need no channels: what a leadership ever wrote
 * stays deliverable (wrote, told) after its owner is dead or deposed, and an acknowledgement is taken
 * at once but acted upon later. One request to the store may be under way for each root; it lands
 * whenever it likes, also after its sender has died, and its answer is learned by reading.
 *
 * A leadership is one try of one root to lead, in one life of its process. Its number stands for the
 * pair (epoch, owner); rules compare epoch and owner only. A block is (leadership, number): within a
 * leadership the log only grows, so equal blocks have equal logs below them, as equal chains do.
 *
 * Bounds: N roots, L block numbers, LEADERSHIPS tries, CRASHES, CHANGES of the set, LOSSES of data.
 * KEEP is in_sync_min, ASK is promote_min. Names M_... each break one rule, M_NEVER_... claim that
 * something does not happen which must; run.py knows them.
 */
#ifndef N
#define N 3
#endif
#ifndef KEEP
#define KEEP (N / 2 + 1)
#endif
#ifndef ASK
#define ASK (N - KEEP + 1)
#endif
#ifndef L
#define L 3
#endif
#ifndef LEADERSHIPS
#define LEADERSHIPS 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef LOSSES
#define LOSSES 0
#endif

#define BIT(r) (1 << (r))
#define ALL (BIT(N) - 1)
#define SIZE(s) (((s) & 1) + (((s) >> 1) & 1) + (((s) >> 2) & 1) + (((s) >> 3) & 1) + ((s) >> 4))

#define FOLLOW 0 /* takes blocks of the leadership that it has promised */
#define TRY 1    /* has promised itself, its check-and-set is under way */
#define ELECT 2  /* named by the record, gathers promises */
#define LEAD 3   /* has written its epoch block */

typedef Log { byte at[L + 1] };
typedef Row { byte by[N] };

/* The record, and a backup of it that a loss of data may bring back. Leader 0: there is none. */
byte rec_lead, rec_set, rec_gen;
#if LOSSES
byte old_lead, old_set, old_gen, losses;
#endif

/* Leaderships, from 1. */
byte leaderships;
byte epoch[LEADERSHIPS + 1], owner[LEADERSHIPS + 1];
Log wrote[LEADERSHIPS + 1];
byte written[LEADERSHIPS + 1]; /* blocks in wrote */
byte told[LEADERSHIPS + 1];    /* commit index that its owner has told */

/* Roots. On disk: log up to synced, promise, applied. The rest is lost in a crash. */
Log log[N];
byte end[N], synced[N], applied[N], promise[N];
byte role[N], mine[N], need[N], granted[N], first[N];
Row acked[N];

/* The request of each root that is under way to the store: on this generation, write this. */
byte cas_gen[N], cas_lead[N], cas_set[N];

byte crashes, changes;

/* The record alone decides, guarded by generations: a root keeps the highest that it has read or was
 * told, tries on no older record, follows nobody who does not bring a higher one. Not sound; here
 * only the harm itself counts, not that somebody unfit leads for a while and commits nothing. */
#ifdef M_RECORD_ALONE
byte seen[N];
#define NEWER(o, r) (seen[o] > seen[r])
#define FRESH(r) (rec_gen >= seen[r])
#define SEE(r, g) seen[r] = (g > seen[r] -> g : seen[r])
#define EARLY(claim) true
#else
#define NEWER(o, r) true
#define FRESH(r) true
#define SEE(r, g) skip
#define EARLY(claim) (claim)
#endif

/* What was ever committed: the block at each number, and the epoch whose leader committed it. */
byte truth[L + 1], truth_epoch[L + 1];

/* What a step reckons with; zero between steps. */
byte a, b, c, d, n;
bool ok;

inline done() { a = 0; b = 0; c = 0; d = 0; n = 0; ok = false }

/* May a root that promised q follow p? */
#ifdef M_EPOCH_WITHOUT_NAME
#define ABOVE(p, q) (epoch[p] >= epoch[q])
#else
#define ABOVE(p, q) (epoch[p] > epoch[q] || (epoch[p] == epoch[q] && owner[p] == owner[q]))
#endif

/* n = how many blocks of root r are those that leadership l wrote. */
inline match(r, l) {
    n = 0;
    do
    :: n < end[r] && n < written[l] && log[r].at[n + 1] == wrote[l].at[n + 1] -> n++
    :: else -> break
    od
}

/* Root r keeps its first k blocks; what a crash or a cut takes away. */
inline cut(r, k) {
    for (c : 1 .. L) {
        if
        :: c > k -> log[r].at[c] = 0
        :: else -> skip
        fi
    }
    end[r] = k;
    if
    :: synced[r] > k -> synced[r] = k
    :: else -> skip
    fi
}

/* What nobody can reach any more is forgotten, so that equal futures are one state. */
inline forget() {
    for (a : 1 .. leaderships) {
        ok = (role[owner[a]] != FOLLOW && mine[owner[a]] == a);
        for (b : 0 .. N - 1) {
            ok = ok || promise[b] == a
        }
        if
        :: !ok ->
            written[a] = 0;
            told[a] = 0;
            for (c : 1 .. L) {
                wrote[a].at[c] = 0
            }
        :: else -> skip
        fi
    }
}

inline rest(r) {
    role[r] = FOLLOW;
    mine[r] = 0;
    need[r] = 0;
    granted[r] = 0;
    first[r] = 0;
    for (c : 0 .. N - 1) {
        acked[r].by[c] = 0
    }
}

#define FOLLOWS(r) (owner[promise[r]] != (r))

/* Whose blocks root r takes for the log: those of the leadership that it has promised. */
#ifdef M_LEADS_ON
#define LINE(r) (promise[r] + (role[r] == LEAD) * (mine[r] - promise[r]))
#else
#define LINE(r) promise[r]
#endif

/* Blocks up to k of root r count as committed there, by word of leadership l. */
inline commit(r, k, l) {
    printf("root %d counts %d blocks as committed in epoch %d\n", r, k, epoch[l]);
    for (c : 1 .. k) {
        assert(log[r].at[c] != 0);
        assert(truth[c] == 0 || truth[c] == log[r].at[c]); /* never two at one number */
        if
        :: truth[c] == 0 ->
            /* A deposed root commits nothing that its successors lack. */
            for (b : 1 .. leaderships) {
                assert(EARLY(epoch[b] <= epoch[l] || written[b] == 0 ||
                             wrote[b].at[c] == log[r].at[c]))
            }
            for (b : 1 .. L) {
                assert(EARLY(truth_epoch[b] <= epoch[l]))
            }
#ifdef M_NEVER_THIRD
            assert(epoch[l] < 3);
#endif
#ifdef M_NEVER_AFTER_LOSS
            assert(losses == 0 || epoch[l] < 2);
#endif
            truth[c] = log[r].at[c];
            truth_epoch[c] = epoch[l]
        :: else -> skip
        fi
    }
    applied[r] = k
}

/* n = up to where everybody whom root o counts has acknowledged. */
inline agreed(o) {
    n = L;
#ifdef M_QUORUM_OF_SET
    do
    :: n == 0 || a >= KEEP -> break
    :: else ->
        a = 0;
        for (c : 0 .. N - 1) {
            a = a + ((need[o] & BIT(c)) && acked[o].by[c] >= n -> 1 : 0)
        }
        n = (a >= KEEP -> n : n - 1)
    od
#else
    for (c : 0 .. N - 1) {
        if
        :: (need[o] & BIT(c)) && acked[o].by[c] < n -> n = acked[o].by[c]
        :: else -> skip
        fi
    }
#endif
}

/* Root r learns the commit index, which counts for blocks that it has in common with the leader. */
inline learn(r) {
#ifdef M_COMMIT_BY_NUMBER
    n = synced[r];
#else
    match(r, promise[r]);
    n = (n < synced[r] -> n : synced[r]);
#endif
    n = (n < told[promise[r]] -> n : told[promise[r]]);
    if
    :: FOLLOWS(r) && n > applied[r] -> commit(r, n, promise[r])
    :: else -> skip
    fi
}

/* The leader counts; its commit index goes out. */
inline settle(o) {
    agreed(o);
    if
#ifdef M_ANY_SIZE
    :: role[o] == LEAD && n > applied[o] && n >= first[o] ->
#else
    :: role[o] == LEAD && n > applied[o] && n >= first[o] && SIZE(need[o]) >= KEEP ->
#endif
        told[mine[o]] = n;
        commit(o, n, mine[o]);
        for (a : 0 .. N - 1) {
            if
            :: promise[a] == mine[o] -> learn(a)
            :: else -> skip
            fi
        }
    :: else -> skip
    fi
}

/* Root r has k blocks of its line on disk, and says so. */
inline acknowledge(r, k) {
    d = owner[LINE(r)];
    if
    :: role[d] == LEAD && mine[d] == LINE(r) && k > acked[d].by[r] ->
        acked[d].by[r] = k;
        SEE(r, seen[d]);
#ifndef LATE
        settle(d)
#endif
    :: else -> skip
    fi
}

/* ---- a standby ---------------------------------------------------------------------------------- */

#define CLAIMED(r, o) ((o) != (r) && role[o] >= ELECT && promise[r] != mine[o] \
                       && ABOVE(mine[o], promise[r]) && NEWER(o, r))

/* Root r hears of the leadership of o, and promises. To one that gathers promises it brings its log;
 * o takes it over when it is the better one. */
inline hear(r, o) {
    printf("root %d (log to %d, %d on disk) promises epoch %d to root %d\n",
           r, end[r], synced[r], epoch[mine[o]], o);
    promise[r] = mine[o];
    SEE(r, seen[o]);
#ifndef M_LEADS_ON
    rest(r);
#endif
    if
    :: role[o] == ELECT ->
        granted[o] = granted[o] | BIT(r);
#ifndef M_OWN_LOG_ONLY
        a = log[r].at[synced[r]];
        b = log[o].at[end[o]];
        if
#ifdef M_LONGEST_WINS
        :: synced[r] > end[o] ->
#else
        :: epoch[a] > epoch[b] || (epoch[a] == epoch[b] && synced[r] > end[o]) ->
#endif
            n = 0;
            do
            :: n < end[o] && n < synced[r] && log[r].at[n + 1] == log[o].at[n + 1] -> n++
            :: else -> break
            od;
            assert(n >= applied[o]);
            cut(o, n);
            printf("root %d takes over the log of root %d, %d blocks\n", o, r, synced[r]);
            for (c : 1 .. L) {
                if
                :: c <= synced[r] -> log[o].at[c] = log[r].at[c]
                :: else -> skip
                fi
            }
            end[o] = synced[r]
#ifdef M_NEVER_BROUGHT
            ;
            assert(false)
#endif
        :: else -> skip
        fi
#endif
    :: else -> skip
    fi;
    forget()
}

/* The next block of the promised leadership; what differs is cut. */
inline take(r) {
    printf("root %d takes block %d of epoch %d, from root %d\n",
           r, n + 1, epoch[wrote[promise[r]].at[n + 1]], owner[promise[r]]);
    assert(n >= applied[r]); /* what was shown is never taken back */
#ifdef M_NEVER_CUT
    assert(n == end[r]);
#endif
    cut(r, n);
    end[r] = n + 1;
    log[r].at[n + 1] = wrote[promise[r]].at[n + 1];
#ifdef M_ACK_BEFORE_SYNC
    acknowledge(r, end[r]);
#endif
}

/* ---- take-over ---------------------------------------------------------------------------------- */

/* Where there is no record, a person may let a root try. */
#ifdef M_OUTSIDER
#define MAY_TRY(r) true
#else
#define MAY_TRY(r) (rec_lead == 0 || (rec_set & BIT(r)) && FRESH(r))
#endif

/* Promise oneself a higher epoch, on disk; then ask the store to say so. */
inline try(r) {
    leaderships++;
    a = leaderships;
    owner[a] = r;
    epoch[a] = epoch[rec_lead] + 1;
    if
    :: epoch[promise[r]] > epoch[rec_lead] -> epoch[a] = epoch[promise[r]] + 1
    :: else -> skip
    fi;
    rest(r);
    role[r] = TRY;
    printf("root %d stops, and asks for epoch %d\n", r, epoch[a]);
    mine[r] = a;
#ifndef M_NO_STOP
    promise[r] = a;
#endif
    cas_gen[r] = rec_gen;
    cas_lead[r] = a;
    cas_set[r] = (rec_lead == 0 -> ALL : rec_set);
    forget()
}

/* Enough promises: the epoch block. Every block that an earlier epoch committed must be below it. */
inline open(r) {
    for (c : 1 .. L) {
        assert(EARLY(truth[c] == 0 || truth_epoch[c] >= epoch[mine[r]] ||
                     truth[c] == log[r].at[c]))
    }
#ifdef M_NO_EPOCH_BLOCK
    commit(r, end[r], mine[r]);
    first[r] = 0;
    told[mine[r]] = end[r];
#else
    end[r]++;
    log[r].at[end[r]] = mine[r];
    first[r] = end[r];
#endif
    written[mine[r]] = end[r];
    for (c : 1 .. L) {
        wrote[mine[r]].at[c] = log[r].at[c]
    }
    role[r] = LEAD;
    granted[r] = 0;
    printf("root %d leads epoch %d from block %d on\n", r, epoch[mine[r]], end[r]);
}

/* ---- the leader --------------------------------------------------------------------------------- */

inline write(r) {
    printf("root %d writes block %d\n", r, end[r] + 1);
    end[r]++;
    log[r].at[end[r]] = mine[r];
    wrote[mine[r]].at[end[r]] = mine[r];
    written[mine[r]] = end[r]
}

#define LEADS(r) (role[r] == LEAD)
#define NAMED(r) (rec_lead == mine[r] && cas_lead[r] == 0)

#define MAY_DROP(r, s) ((s) != (r) && LEADS(r) && NAMED(r) && changes < CHANGES \
                        && (rec_set & BIT(s)))
inline drop(r, s) {
    printf("root %d asks to drop root %d\n", r, s);
    changes++;
    cas_gen[r] = rec_gen;
    cas_lead[r] = mine[r];
    cas_set[r] = rec_set & ~BIT(s);
#ifdef M_DROP_BEFORE_CAS
    need[r] = need[r] & ~BIT(s);
#endif
}

#ifdef M_ADD_LAGGING
#define CAUGHT_UP(r, s) true
#else
#ifdef M_ADD_AT_COMMIT
#define CAUGHT_UP(r, s) (acked[r].by[s] >= applied[r])
#else
#define CAUGHT_UP(r, s) (acked[r].by[s] >= first[r] && acked[r].by[s] >= applied[r])
#endif
#endif
#define MAY_ADD(r, s) (LEADS(r) && NAMED(r) && changes < CHANGES \
                       && !(rec_set & BIT(s)) && CAUGHT_UP(r, s))
inline add(r, s) {
    printf("root %d asks to add root %d\n", r, s);
    changes++;
#ifndef M_RECORD_BEFORE_COUNT
    need[r] = need[r] | BIT(s);
#endif
    cas_gen[r] = rec_gen;
    cas_lead[r] = mine[r];
    cas_set[r] = rec_set | BIT(s)
}

/* ---- crashes, and the store --------------------------------------------------------------------- */

inline crash(r) {
    printf("root %d crashes; %d of its %d blocks stay\n", r, synced[r], end[r]);
    crashes++;
    rest(r);
    cut(r, synced[r]);
#ifdef M_PROMISE_NOT_SYNCED
    promise[r] = (log[r].at[end[r]] == 0 -> 1 : log[r].at[end[r]]);
#endif
    forget()
}

#ifdef M_RESUMES_EPOCH
/* The root that the record names is back, and goes on where it was. */
inline resume(r) {
    leaderships++;
    a = leaderships;
    owner[a] = r;
    epoch[a] = epoch[rec_lead];
    rest(r);
    role[r] = LEAD;
    mine[r] = a;
    promise[r] = a;
    rec_lead = a;
    need[r] = rec_set;
    first[r] = applied[r];
    written[a] = end[r];
    told[a] = applied[r];
    for (c : 1 .. L) {
        wrote[a].at[c] = log[r].at[c]
    }
    forget()
}
#endif

/* The request of root r has failed. */
inline refuse(r) {
    if
    :: role[r] == TRY && mine[r] == cas_lead[r] -> rest(r)
    :: else -> skip
    fi;
    cas_gen[r] = 0;
    cas_lead[r] = 0;
    cas_set[r] = 0
}

/* It has succeeded, and r learns that, unless it has died or goes after something else by now. */
inline grant(r) {
    rec_lead = cas_lead[r];
    rec_set = cas_set[r];
#ifdef M_RECORD_ALONE
    rec_gen = (seen[r] > rec_gen -> seen[r] : rec_gen);
#endif
    rec_gen++;
    SEE(r, rec_gen);
    printf("record: epoch %d, leader %d, set %d, generation %d\n",
           epoch[rec_lead], owner[rec_lead], rec_set, rec_gen);
    cas_gen[r] = 0;
    cas_lead[r] = 0;
    cas_set[r] = 0;
    if
    :: mine[r] == rec_lead && role[r] >= TRY ->
        need[r] = rec_set;
        if
        :: role[r] == TRY ->
            role[r] = ELECT;
            granted[r] = BIT(r)
        :: role[r] == LEAD ->
#ifndef LATE
            settle(r)
#endif
        :: else -> skip
        fi
    :: else -> skip
    fi
}

/* The request of root r arrives. With it every other one on the same generation has failed. */
inline land(r) {
    if
#ifdef M_NO_CHECK_AND_SET
    :: true -> grant(r)
#else
    :: cas_gen[r] == rec_gen ->
        grant(r);
#if LOSSES == 0
        for (d : 0 .. N - 1) {
            if
            :: cas_lead[d] != 0 -> refuse(d)
            :: else -> skip
            fi
        }
#endif
    :: else -> refuse(r)
#endif
    fi;
    forget()
}

/* ---- processes ---------------------------------------------------------------------------------- */

#define STANDBY(o) :: d_step { CLAIMED(i, o) -> hear(i, o); done() }
#define MEMBER(o)  :: d_step { MAY_DROP(i, o) -> drop(i, o); done() } \
                   :: d_step { MAY_ADD(i, o) -> add(i, o); done() }

proctype Root(byte i) {
    do
    STANDBY(0) STANDBY(1)
#if N > 2
    STANDBY(2)
#endif
#if N > 3
    STANDBY(3) STANDBY(4)
#endif
    :: d_step { FOLLOWS(i) && written[promise[i]] > 0 && synced[i] == end[i] ->
        match(i, promise[i]);
        if
        :: n < written[promise[i]] -> take(i)
        :: else -> skip
        fi;
        done() }
    :: d_step { synced[i] < end[i] ->
        synced[i] = end[i];
        printf("root %d has %d blocks on disk\n", i, end[i]);
#ifdef M_ACK_BY_NUMBER
        n = end[i];
#else
        match(i, LINE(i));
#endif
        acknowledge(i, n);
        learn(i);
        done() }
    :: d_step { role[i] != TRY && leaderships < LEADERSHIPS && MAY_TRY(i) -> try(i); done() }
    :: d_step { role[i] == ELECT && SIZE(granted[i]) >= ASK && end[i] < L -> open(i); done() }

    :: d_step { LEADS(i) && end[i] < L && synced[i] == end[i] -> write(i) }
#ifdef LATE
    :: d_step { LEADS(i) -> settle(i); done() }
#endif
    MEMBER(0) MEMBER(1)
#if N > 2
    MEMBER(2)
#endif
#if N > 3
    MEMBER(3) MEMBER(4)
#endif
#ifdef M_UNKNOWN_IS_FAILED
    :: d_step { LEADS(i) && cas_lead[i] == mine[i] && rec_lead == mine[i] && need[i] != rec_set ->
        need[i] = rec_set;
        settle(i);
        done() }
#endif
#ifdef M_STANDBY_WRITES
    :: d_step { role[i] == FOLLOW && promise[i] == rec_lead && changes < CHANGES &&
                cas_lead[i] == 0 && !(rec_set & BIT(i)) && synced[i] >= told[rec_lead] ->
        changes++;
        cas_gen[i] = rec_gen;
        cas_lead[i] = rec_lead;
        cas_set[i] = rec_set | BIT(i) }
#endif
#ifdef M_RESUMES_EPOCH
    :: d_step { role[i] == FOLLOW && rec_lead != 0 && owner[rec_lead] == i && promise[i] == rec_lead &&
                leaderships < LEADERSHIPS -> resume(i); done() }
#endif
#if LOSSES
    /* What sits as leader, rightly or not, writes a lost or strange record anew. */
    :: d_step { LEADS(i) && losses > 0 && cas_lead[i] == 0 && changes < CHANGES &&
                (rec_lead != mine[i] || rec_set != need[i]) ->
        changes++;
        cas_gen[i] = rec_gen;
        cas_lead[i] = mine[i];
        cas_set[i] = need[i] }
#endif
    :: d_step { crashes < CRASHES && (role[i] != FOLLOW || synced[i] < end[i]) ->
        crash(i);
        done() }
    od
}

#define REQUEST(r) :: d_step { cas_lead[r] != 0 -> land(r); done() }

proctype Store() {
    do
    REQUEST(0) REQUEST(1)
#if N > 2
    REQUEST(2)
#endif
#if N > 3
    REQUEST(3) REQUEST(4)
#endif
#if LOSSES
    :: d_step { losses < LOSSES && old_gen != rec_gen ->
        old_lead = rec_lead;
        old_set = rec_set;
        old_gen = rec_gen }
    :: d_step { losses < LOSSES ->
        losses++;
        rec_lead = old_lead;
        rec_set = old_set;
        rec_gen = old_gen;
        old_lead = 0;
        old_set = 0;
        old_gen = 0;
        printf("the store goes back to generation %d\n", rec_gen) }
    :: d_step { losses < LOSSES ->
        printf("the store loses the record\n");
        losses++;
        rec_lead = 0;
        rec_set = 0;
        rec_gen = 0;
        old_lead = 0;
        old_set = 0;
        old_gen = 0 }
#endif
    od
}

/* Root 0 leads in epoch 1, whose epoch block is what number 0 stands for. */
init {
    d_step {
        leaderships = 1;
        epoch[1] = 1;
        for (a : 0 .. N - 1) {
            promise[a] = 1
        }
        role[0] = LEAD;
        mine[0] = 1;
        need[0] = ALL;
        rec_lead = 1;
        rec_set = ALL;
        rec_gen = 1;
        a = 0
    }
    atomic {
        for (a : 0 .. N - 1) {
            run Root(a)
        }
        a = 0;
        run Store()
    }
}
