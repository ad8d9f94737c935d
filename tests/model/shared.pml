/* SPDX-License-Identifier: Apache-2.0
 *
 * Model of docs/shared-memory.md: one daemon at a time, one client with a mapping and a socket, one
 * key. The daemon may be killed between any two of its steps, and its kernel says so before the next
 * one can start. Every store of the daemon to shared memory and every load of the client is a step
 * of its own; that they come in the order in which they stand here is what the memory orders of
 * common/shared/board.c and look.c are for, so a wrong memory order is a wrong order here.
 *
 * The key's version in each state is chosen when the state is logged: truth[index], 0 = absent. A
 * state reaches the store through the log, where it is learned first, or by another store that takes
 * the place of the one in use (a jump), which is learned of by nobody.
 *
 * Bounds: STATES, CALLS of the client, GENERATIONS of the filter, BOARDS, KILLS, WALKS, JUMPS, FAILS
 * of a block to be applied, FILLS. STATIC: the client goes on while there is no daemon. Names M_...
 * each break one rule, M_NEVER_... claim that something does not happen which must; run.py knows them.
 */
#ifndef STATES
#define STATES 3
#endif
#ifndef CALLS
#define CALLS 4
#endif
#ifndef GENERATIONS
#define GENERATIONS 3
#endif
#ifndef BOARDS
#define BOARDS 3
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef WALKS
#define WALKS 1
#endif
#ifndef JUMPS
#define JUMPS 1
#endif
#ifndef FAILS
#define FAILS 1
#endif
#ifndef FILLS
#define FILLS 2
#endif

/* The log, the store, the newest view. */
byte truth[STATES + 1];
byte logged, applied, view, view_board, view_front;

/* Generations of the filter: is the key in it, from which state on does it know all keys. */
bool holds[GENERATIONS + 1];
byte since[GENERATIONS + 1];
byte generations, live, next;
bool walked; /* the walk has passed the key */

/* Boards. A slot for the key: a number that is odd while it is written, what it says, since when. */
byte visible[BOARDS + 1], fed[BOARDS + 1], sequence[BOARDS + 1], from[BOARDS + 1], says[BOARDS + 1];
bool filled[BOARDS + 1], retired[BOARDS + 1], alive[BOARDS + 1];
byte raised[BOARDS + 1], life[BOARDS + 1]; /* the incarnation, and the daemon, that it was made by */
byte boards, board, covered;
bool broken; /* the board missed something */

byte incarnation;
byte begun, opened, ended; /* daemons that have started, opened their doors, are gone */
bool serving, killed;
byte kills, walks, jumps, fails, fills;

/* The filters that are fed learn what is new in state `j`. */
inline add(j) {
    if
    :: truth[j] != 0 && truth[j - 1] == 0 && live != 0 -> holds[live] = true
    :: else -> skip
    fi;
#ifndef M_NEXT_NOT_FED
    if
    :: truth[j] != 0 && truth[j - 1] == 0 && next != 0 -> holds[next] = true
    :: else -> skip
    fi
#endif
}

inline forget(j) {
    if
    :: truth[j] != truth[j - 1] ->
        sequence[board]++;
        filled[board] = false;
        sequence[board]++
    :: else -> skip
    fi
}

/* Before state `j` is written to the store. */
inline learn(j) {
    if
    :: j == covered + 1 -> covered++
    :: j > covered + 1 -> broken = true
    :: else -> skip
    fi;
#ifndef M_FILTER_LATE
    add(j);
#endif
#ifndef M_FORGETS_LATE
    forget(j)
#endif
}

inline new_board() {
    d_step {
        boards++;
        board = boards;
        visible[board] = applied;
        fed[board] = live;
        alive[board] = true;
        raised[board] = begun; /* each start raises it by one */
        life[board] = begun;
        covered = applied;
        broken = false
    }
}

#ifdef M_KEEPS_THE_BOARD
#define FITS true
#else
#define FITS (applied <= covered && !broken)
#endif

/* The slot takes what the newest view says. */
inline fill() {
    sequence[board]++;
    filled[board] = true;
    says[board] = truth[view];
    from[board] = view;
    sequence[board]++
}

#ifdef M_FILLS_BEHIND_THE_LOG
#define MAY_FILL true
#else
#define MAY_FILL (covered == view)
#endif

inline publish() {
    if
    :: FITS -> skip
    :: else ->
#ifndef M_NOT_RETIRED
        retired[board] = true;
#endif
        new_board()
    fi;
#ifdef M_VISIBLE_BEFORE_VIEW
    visible[board] = applied;
#endif
    d_step { view = applied; view_board = board; view_front = live };
    if /* whoever has pinned the view may fill before its index is in the memory */
    :: fills < FILLS && MAY_FILL -> fills++; fill()
    :: true -> skip
    fi;
#ifdef M_GENERATION_LATE
    visible[board] = applied;
    fed[board] = live
#else
    fed[board] = live;
    visible[board] = applied
#endif
}

proctype daemon() {
    begun++;
#ifndef M_INCARNATION_LATE
    incarnation++;
#endif
    d_step {
        applied = logged;
        generations++;
        live = generations;
        since[live] = applied;
        holds[live] = (truth[applied] != 0);
        next = 0
    }
    new_board();
    d_step { view = applied; view_board = board; view_front = live; serving = true; opened = begun };
#ifdef M_INCARNATION_LATE
    incarnation++;
#endif
    {
end:    do
        :: logged < STATES && logged <= applied + 1 -> d_step {
               logged++;
               if
               :: true -> truth[logged] = logged
               :: true -> truth[logged] = 0
               :: true -> truth[logged] = truth[logged - 1]
               fi
           }
        :: logged > applied && view == applied ->
            learn(applied + 1);
            if
            :: fails < FAILS -> fails++
            :: true ->
                applied++;
                publish();
#ifdef M_FILTER_LATE
                add(applied);
#endif
#ifdef M_FORGETS_LATE
                forget(applied);
#endif
                skip
            fi
        :: logged > applied && jumps < JUMPS -> d_step { /* to another store */
               jumps++;
               applied = logged;
               live = 0;
               next = 0
           }
        :: logged > applied && view < applied -> /* blocks that are not shown one by one */
            learn(applied + 1);
            applied++
        :: view < applied -> publish()
        :: fills < FILLS && MAY_FILL -> fills++; fill()
        :: walks < WALKS && next == 0 && generations < GENERATIONS -> d_step {
               walks++;
               generations++;
               next = generations;
               holds[next] = false;
               walked = false
           }
        :: next != 0 && !walked -> d_step {
               walked = true;
               holds[next] = holds[next] || truth[applied] != 0
           }
        :: next != 0 && walked ->
            d_step { since[next] = applied; live = next; next = 0 };
            if
            :: view == applied -> publish()
            :: true -> skip /* with the next state */
            fi
        od
    } unless { killed };
    /* The kernel. */
    alive[board] = false;
    ended = begun;
    if
    :: boards < BOARDS && generations < GENERATIONS ->
        killed = false;
        run daemon()
    :: else -> skip
    fi
}

proctype killer() {
    do
    :: kills < KILLS && serving -> d_step { kills++; serving = false; killed = true }
    :: kills == KILLS -> break
    od
}

byte seen; /* the newest state that the client has shown */

proctype client() {
    byte at, front, mine, calls, index, first, says_from, answer;
    bool known, was_gone, was_opened, was_replaced, was_alive;
    do
    :: calls < CALLS ->
        calls++;
        if
        :: serving && view >= seen -> seen = view /* by the socket, which waits for that */
        :: serving -> d_step { at = view_board; front = view_front; mine = raised[at] }
        :: at != 0 ->
            was_gone = (ended >= life[at]);
            was_opened = (opened > life[at]);
            was_replaced = (view_board > at && life[view_board] == life[at]);
            known = false;
#ifdef M_GENERATION_BEFORE
            first = fed[at];
#endif
#ifndef M_INDEX_AFTER
            index = visible[at];
#endif
#ifndef M_INDEX_AFTER
#ifdef M_BEYOND_THE_VISIBLE
            if
            :: index < seen && serving -> index = seen
            :: else -> skip
            fi;
#endif
            do /* or an earlier one, that a socket has named for other keys */
            :: index > seen -> index--
            :: break
            od;
#endif
            if
#ifdef M_NO_SINCE_OF_FILTER
            :: front != 0 -> known = !holds[front]
#elif defined(M_INDEX_AFTER)
            :: front != 0 -> known = !holds[front]
#else
            :: front != 0 && index >= since[front] -> known = !holds[front]
#endif
            :: else -> skip
            fi;
            answer = 0;
#ifdef M_INDEX_AFTER
            index = visible[at];
            known = known && index >= since[front];
#endif
            if
            :: known ->
#ifdef M_GENERATION_BEFORE
                known = (first == front)
#elif !defined(M_NO_GENERATION)
                known = (fed[at] == front)
#endif
            :: else ->
                first = sequence[at];
                known = filled[at] && !(first & 1);
                answer = says[at];
                says_from = from[at];
#ifndef M_NO_SINCE_OF_SLOT
                known = known && says_from <= index;
#endif
#ifndef M_NO_SECOND_SEQUENCE
                known = known && first == sequence[at]
#endif
            fi;
            known = known && !retired[at];
#if defined(STATIC)
            was_alive = alive[at];
            known = known && (was_alive || incarnation == mine);
#elif !defined(M_NOT_WHETHER_ALIVE)
            known = known && alive[at];
#endif
#ifndef M_NO_LEAST
            known = known && index >= seen;
#endif
            if
            :: known ->
                assert(answer == truth[index]);
                assert(index >= seen);
                assert(index <= view);
                assert(!was_opened && !was_replaced);
#ifndef STATIC
                assert(!was_gone);
#endif
#ifdef M_NEVER_AFTER_A_KILL
                assert(life[at] == 1);
#endif
#ifdef M_NEVER_STATIC
                assert(!was_gone);
#endif
#ifdef M_NEVER_HOT
                assert(answer == 0 || index < 2);
#endif
#ifdef M_NEVER_BY_A_WALK
                assert(!(front == 2 && index >= 2 && truth[index - 1] != 0));
#endif
                seen = index
            :: else -> skip
            fi
        fi;
        index = 0; first = 0; says_from = 0; answer = 0;
        known = false; was_gone = false; was_opened = false; was_replaced = false; was_alive = false
    :: calls == CALLS -> break
    od
}

init { atomic { run daemon(); run killer(); run client() } }
