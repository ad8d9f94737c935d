// SPDX-License-Identifier: Apache-2.0
// The file that keeps a history's birth block: two threads learn of it at the same moment, the
// applier from the journal, the writer from what a parent said.
#include "tests/unit/tree_fixture.h"

#include <unistd.h>

#define TIMES 3000

struct two {
    struct site *root;
    struct birth birth;
    atomic_bool over;
};

static void *told(void *of)
{
    struct two *two = of;
    while (!atomic_load(&two->over)) {
        birth_set(two->root->instance, &two->birth);
    }
    return NULL;
}

static void forget(struct instance *instance)
{
    pthread_mutex_lock(&instance->lock);
    instance->birth.size = 0;
    pthread_mutex_unlock(&instance->lock);
    char *path = mem_format("%s/BIRTH", instance->directory);
    (void)unlink(path);
    mem_free(path);
}

// What a warning says goes to a file.
static size_t log_bytes(int fd) { return (size_t)lseek(fd, 0, SEEK_END); }

static void test_learned_twice(void **state)
{
    (void)state;
    struct author author;
    struct two two = {.root = site_new("root", ROLE_ROOT)};
    root_open(two.root, &author, 1, 3);
    birth_get(two.root->instance, &two.birth);
    assert_true(two.birth.size > 0);
    FILE *log = tmpfile();
    int before = dup(STDERR_FILENO);
    assert_true(log != NULL && before >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    pthread_t thread;
    pthread_create(&thread, NULL, told, &two);
    for (unsigned i = 0; i < TIMES; i++) {
        forget(two.root->instance);
        birth_find(two.root->instance);
    }
    atomic_store(&two.over, true);
    pthread_join(thread, NULL);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    assert_int_equal(log_bytes(fileno(log)), 0);
    close(before);
    fclose(log);
    root_close(two.root, &author);
}

int main(void)
{
    log_open(LOG_WARN);
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_learned_twice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
