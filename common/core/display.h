// SPDX-License-Identifier: Apache-2.0
// What an instance shares with programs of its machine (option share_memory): the board that its
// newest view is shown on, which keys are put on it, and what readers have used of it.
// docs/shared-memory.md has the order that the applier keeps.
//
// A board is good for as long as every change passes display_learn: what came into the store by
// another way, or is of another history, is shown on a new one, and the one before is retired.
// What is read twice at a socket within a short while is put on the board, as the newest view has
// it: values that fit, and absences of keys that the front filter takes for present.
//
// The applier's thread, unless said otherwise. A display may be NULL: nothing is shared.
#ifndef QS_COMMON_CORE_DISPLAY_H
#define QS_COMMON_CORE_DISPLAY_H

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

// A key was looked up at a socket, in this view, and is worth a place on the board if that happens
// often. Any thread.
void display_note(struct display *display, const struct view *view, struct bytes key);

// The descriptors of what goes with a view, which keeps them open; 0: nothing is shared. Any
// thread.
unsigned display_fds(struct display *display, const struct view *view, int ret_fds[LOOK_FDS]);

#endif
