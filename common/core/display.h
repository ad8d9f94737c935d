// SPDX-License-Identifier: Apache-2.0
// The table of keys that are read often (option hot_bytes), with the board that it lies on, and
// what of it is shared with programs of this machine (option share_memory): the board that the
// newest view is shown on, which keys are put on it, and what readers have used of it.
// docs/shared-memory.md has the order that is kept.
//
// A board is good for as long as every change passes display_learn: what came into the store by
// another way, or is of another history, is shown on a new one, and the one before is retired. What
// is read is put on the board, as its view has it: values that fit, and absences of keys that the
// front filter takes for present. Once the board is well filled only what is read twice within a
// short while.
//
// The applier's thread, unless said otherwise. A display may be NULL: there is no such table, and
// nothing is shared.
#ifndef QS_COMMON_CORE_DISPLAY_H
#define QS_COMMON_CORE_DISPLAY_H

#include "common/core/record.h"
#include "common/core/view.h"
#include "common/data/block.h"
#include "common/shared/look.h"

struct display;
struct instance;

// Raises the incarnation, so that whatever was mapped of an earlier start is dead, whether anything
// is shared from now on or not; sets instance->display. Before any door is open. ERR_DISK_FULL,
// ERR_IO: logged.
int display_open(struct instance *instance) MUST_CHECK;
void display_close(struct display *display); // the applier has ended

// The block is about to be written to the store; again after a failure.
void display_learn(struct display *display, const struct block *block);
// Chooses the board of a view that is about to be published.
void display_prepare(struct display *display, struct view *view);
// It is published.
void display_show(struct display *display, const struct view *view);
// Tells the role what was read. Returns after how many nanoseconds it shall be called again at the
// latest; WORKER_IDLE: no matter when.
uint64_t display_turn(struct display *display);

// What the key is in this view: OK with `record`, whose value is in `room`; ERR_NOT_FOUND;
// ERR_INCOMPLETE: the table does not say. `hash` = hash128(key, 0). Any thread.
int display_look(const struct view *view, struct hash128 hash, struct bytes key,
                 struct record *ret_record, struct look_answer *room) MUST_CHECK;

// A key was looked up in this view, which says `record`, or that it is absent (NULL): it is put on
// the board, if it is worth the place and that can be done now. Any thread, never waits.
void display_note(struct display *display, const struct view *view, struct bytes key,
                  const struct record *record);

// The descriptors of what goes with a view, which keeps them open; 0: nothing is shared. Any
// thread.
unsigned display_fds(struct display *display, const struct view *view, int ret_fds[LOOK_FDS]);

#endif
