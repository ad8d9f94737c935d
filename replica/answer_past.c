// SPDX-License-Identifier: Apache-2.0
#include "replica/answer_past.h"

#include "replica/mvcc_walk.h"
#include "replica/past.h"

// A page ends after so many keys, whether they were there at the index or not.
#define VISITED_MAX 20000

static void give(struct past_question *question, struct bytes key, int status,
                 const struct record *record)
{
    struct past_row row = {.key = key};
    if (status == OK) {
        row.version = record->version;
        row.check = record->check;
        row.value = record->value;
        question->served++;
    }
    past_row_append(&question->items, &row);
}

static int answer_keys(const struct view *view, struct past_question *question)
{
    struct bytes keys = question->keys;
    while (keys.size > 0 && question->items.size < PAST_BYTES_MAX) {
        struct bytes key = past_key_next(&keys);
        struct mvcc_finding found = {0};
        int error = mvcc_read(view->store, view->snapshot, key, question->at, &found);
        if (error == OK || error == ERR_NOT_FOUND) {
            give(question, key, error, &found.record);
            error = OK;
        }
        mvcc_release(&found);
        if (error != OK) {
            return error;
        }
    }
    return OK;
}

struct page {
    struct past_question *question;
    uint64_t visited, rows;
    int error;
};

static bool page_row(void *argument, struct bytes key, int status, const struct record *record)
{
    struct page *page = argument;
    struct past_question *question = page->question;
    if (status != OK && status != ERR_NOT_FOUND) {
        page->error = status;
        return false;
    }
    bool full = page->rows == question->limit || question->items.size >= PAST_BYTES_MAX;
    if (page->visited == VISITED_MAX || (full && status == OK)) {
        buf_append_bytes(&question->next, key);
        return false;
    }
    page->visited++;
    if (status == OK) {
        page->rows++;
        give(question, key, status, record);
    }
    return true;
}

static int answer_range(const struct view *view, struct past_question *question)
{
    const struct role_range range = {
        .start = question->start, .end = question->end, .from = question->start};
    struct page page = {.question = question};
    question->limit = u64_min(question->limit, PAST_ROWS_MAX);
    int error = mvcc_walk(view->store, view->snapshot, question->at, &range, page_row, &page);
    return error != OK ? error : page.error;
}

static enum fetch_status status_of(int error)
{
    return error == OK          ? FETCH_EXACT
           : error == ERR_GONE ? FETCH_GONE
           : error == ERR_BEHIND ? FETCH_BEHIND
                                 : FETCH_ERROR;
}

int past_answer(const struct instance *instance, const struct view *view,
                struct past_question *question)
{
    int error = view == NULL || question->at > view->place.index ? ERR_BEHIND : OK;
    if (error == OK) {
        error = past_error(instance, view, question->at);
    }
    if (error == OK) {
        error = question->keys.size > 0 ? answer_keys(view, question)
                                        : answer_range(view, question);
    }
    if (error == OK) {
        // What was missing may have been collected.
        error = past_error(instance, view, question->at);
    }
    question->status = status_of(error);
    if (error != OK) {
        buf_clear(&question->items);
        buf_clear(&question->next);
        question->served = 0;
    }
    return question->status == FETCH_ERROR ? error : OK;
}

void past_question_free(struct past_question *question)
{
    buf_free(&question->items);
    buf_free(&question->next);
}
