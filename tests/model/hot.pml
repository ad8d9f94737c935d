/* SPDX-License-Identifier: Apache-2.0
 *
 * Model of the table of hot keys as the threads of one daemon use it (docs/shared-memory.md): the
 * applier that learns, applies and shows blocks, loop threads that fill a slot under a lock for which
 * they do not wait, one that looks at a view, pinned now or long ago, and a program that maps the
 * board. One key, one slot, one board; shared.pml has the rest.
 *
 * The key's version in each state is chosen when its block is learned: 0 = absent. Each store and
 * each load of shared memory is a step of its own.
 *
 * Bounds: STATES, FILLS of each of FILLERS, LOOKS of each of the two who look, FAILS of a block to be
 * applied. Names M_... each break one rule, M_NEVER_... claim that something does not happen which
 * must; run.py knows them.
 */
#ifndef STATES
#define STATES 2
#endif
#ifndef FILLS
#define FILLS 2
#endif
#ifndef FILLERS
#define FILLERS 1
#endif
#ifndef LOOKS
#define LOOKS 2
#endif
#ifndef FAILS
#define FAILS 1
#endif

/* What the key is in each state, the newest view, what programs may see, the last block learned. */
byte truth[STATES + 1];
byte view, visible, covered;

/* The slot: a number that is odd while it is written, since which state it says what. */
byte sequence, from, says;
bool filled, locked;

inline clear_slot()
{
    if
    :: filled ->
        sequence++;
        filled = false;
        sequence++
    :: else
    fi
}

proctype applier()
{
    byte state = 1, fails;
    do
    :: state > STATES -> break
    :: else ->
#ifndef M_LEARNS_WITHOUT_THE_LOCK
        atomic { !locked -> locked = true };
#endif
        /* A block that has to wait for the disk is learned again, as the same. */
        if
        :: covered == state
        :: covered < state ->
            if
            :: truth[state] = state
            :: truth[state] = 0
            :: truth[state] = truth[state - 1]
            fi;
            covered = state
        fi;
        if
        :: truth[state] != truth[state - 1] -> clear_slot()
        :: else
        fi;
#ifndef M_LEARNS_WITHOUT_THE_LOCK
        locked = false;
#endif
        if
        :: fails < FAILS -> fails++
        :: view = state; visible = state; state++
        fi
    od
}

proctype filler()
{
    byte fills, mine, value;
    bool newest;
    do
    :: fills == FILLS -> break
    :: else ->
        fills++;
        d_step { mine = view; value = truth[mine] };
#ifdef M_LOOKS_BEFORE_THE_LOCK
        newest = mine == covered;
#endif
        if
        :: atomic { !locked -> locked = true };
#ifdef M_FILLS_BEHIND
            newest = true;
#endif
#if !defined(M_LOOKS_BEFORE_THE_LOCK) && !defined(M_FILLS_BEHIND)
            newest = mine == covered;
#endif
            if
            :: newest ->
                clear_slot();
                sequence++;
                from = mine;
                says = value;
                filled = true;
                sequence++
            :: else
            fi;
            locked = false
        :: locked
        fi
    od
}

proctype looker(bool maps)
{
    byte looks, mine, before, since, value;
    bool usable;
    do
    :: looks == LOOKS -> break
    :: else ->
        looks++;
        if
        :: maps -> mine = visible
        :: !maps -> mine = view
        :: !maps && looks > 1 /* the view that was pinned before */
        fi;
        before = sequence;
        since = from;
        value = says;
        usable = filled && before % 2 == 0;
#ifndef M_NO_SINCE
        usable = usable && since <= mine;
#endif
        if
        :: usable && sequence == before ->
            assert(value == truth[mine]);
#ifdef M_NEVER_ANSWERED
            assert(false)
#endif
        :: else
        fi
    od
}

init
{
    byte i;
    atomic {
        run applier();
        do
        :: i < FILLERS -> run filler(); i++
        :: else -> break
        od;
        run looker(false);
#ifndef ALONE
        run looker(true)
#endif
    }
}
