// SPDX-License-Identifier: Apache-2.0
// The table of hot keys, and what an instance shares with other processes: every answer is what the
// log says of the index that it names, while blocks, walks and fills go on; and what a board must
// not outlive.
#include "tests/unit/display_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#define READERS 3

static int map_newest(struct scene *scene, struct look *look)
{
    struct instance *instance = scene->at.instance;
    struct view *view = instance_pin(instance);
    int fds[LOOK_FDS];
    unsigned count = display_fds(instance->display, view, fds);
    int error = count == 0 ? ERR_NOT_FOUND : look_open(look, fds, count, false);
    view_release(view);
    return error;
}

static uint64_t newest_index(struct scene *scene)
{
    struct view *view = instance_pin(scene->at.instance);
    uint64_t index = view->place.index;
    view_release(view);
    return index;
}

// One answer beside the model.
static void check_answer(struct scene *scene, const struct model_key *key, int code,
                         const struct look_answer *answer, uint64_t least)
{
    const struct model_version *there = key == NULL ? NULL : version_at(key, answer->index);
    CHECK(answer->index >= least);
    CHECK(answer->index <= newest_index(scene));
    if (code == ERR_NOT_FOUND) {
        CHECK(there == NULL);
        atomic_fetch_add(&scene->absent, 1);
    } else {
        CHECK(there != NULL && answer->version == there->version);
        CHECK(bytes_equal(look_value(answer), bytes_of(there->value, there->size)));
        atomic_fetch_add(&scene->values, 1);
    }
}

// The daemon's own look, at any view that somebody holds.
static void look_within(struct scene *scene, const struct view *view, const struct model_key *key)
{
    struct look_answer room;
    struct record record;
    struct bytes name = model_name(key);
    int code = display_look(view, hash128(name, 0), name, &record, &room);
    const struct model_version *there = version_at(key, view->place.index);
    if (code == ERR_INCOMPLETE) {
        note(scene, view, name);
        return;
    }
    CHECK((code == OK) == (there != NULL));
    CHECK(code != OK || (record.version == there->version &&
                         bytes_equal(record.value, bytes_of(there->value, there->size))));
    atomic_fetch_add(&scene->own, 1);
}

#define LOOKS_OF_A_VIEW 200

static void *read_within(void *argument)
{
    struct scene *scene = argument;
    uint64_t seed = 5;
    while (!atomic_load(&scene->over)) {
        struct view *view = instance_pin(scene->at.instance);
        for (unsigned i = 0; view != NULL && i < LOOKS_OF_A_VIEW; i++) {
            look_within(scene, view, &scene->model.keys[test_random(&seed) % MODEL_KEYS]);
        }
        view_release(view);
    }
    return NULL;
}

struct session {
    struct scene *scene;
    struct look look;
    bool mapped;
    uint64_t seen, seed;
};

// A look, or what a client does where it comes to nothing: it asks at a socket, where its key is
// noted, and for new descriptors.
static void look_once(struct session *session)
{
    struct scene *scene = session->scene;
    uint64_t name = test_random(&session->seed);
    const struct model_key *key = name % 4 == 0 ? NULL : &scene->model.keys[name % MODEL_KEYS];
    struct bytes bytes = key == NULL ? bytes_of(&name, sizeof name) : model_name(key);
    struct look_answer answer;
    int code = look_up(&session->look, bytes, session->seen, &answer);
    if (code != ERR_INCOMPLETE) {
        check_answer(scene, key, code, &answer, session->seen);
        session->seen = answer.index;
        return;
    }
    struct view *view = instance_pin(scene->at.instance);
    note(scene, view, bytes);
    view_release(view);
    if (name % 8 == 1) {
        session->seen = newest_index(scene);
    }
    if (look_state(&session->look) != LOOK_CURRENT) {
        look_close(&session->look);
        session->mapped = false;
    }
}

static void *read_on(void *argument)
{
    struct session session = {.scene = argument};
    session.seed = (uint64_t)(uintptr_t)&session;
    while (!atomic_load(&session.scene->over)) {
        if (session.mapped) {
            look_once(&session);
        } else if (map_newest(session.scene, &session.look) == OK) {
            atomic_fetch_add(&session.scene->maps, 1);
            session.mapped = true;
        }
    }
    if (session.mapped) {
        look_close(&session.look);
    }
    return NULL;
}

static struct block **make_blocks(struct model *model, unsigned count)
{
    struct block **blocks = mem_alloc(count * sizeof *blocks);
    for (unsigned i = 0; i < count; i++) {
        blocks[i] = model_block(model, 1 + test_random(&model->seed) % 3);
    }
    return blocks;
}

static void feed(struct scene *scene, struct block **blocks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        while (!instance_room(scene->at.instance)) {
            sched_yield();
        }
        test_feed(&scene->at, blocks[i]);
        block_release(blocks[i]);
        if (walk_going(scene->at.instance->walk)) {
            driver_slice(&scene->driver, &scene->at, 5);
        } else if (i % 50 == 0) {
            driver_begin(&scene->driver, &scene->at);
        }
    }
    view_release(test_view(&scene->at, scene->model.index));
    while (walk_going(scene->at.instance->walk)) {
        driver_slice(&scene->driver, &scene->at, 5);
    }
    assert_int_equal(walk_error(scene->at.instance->walk), OK);
}

// Readers of the mapping while blocks come and filters are built, each answer checked.
static void test_answers(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 1);
    unsigned count = ROUNDS(20000);
    struct block **blocks = make_blocks(&scene.model, count);
    pthread_t threads[READERS], within;
    for (unsigned i = 0; i < READERS; i++) {
        pthread_create(&threads[i], NULL, read_on, &scene);
    }
    pthread_create(&within, NULL, read_within, &scene);
    feed(&scene, blocks, count);
    mem_free(blocks);
    while (atomic_load(&scene.absent) < ROUNDS(1000000) ||
           atomic_load(&scene.values) < ROUNDS(1000000) ||
           atomic_load(&scene.own) < ROUNDS(1000000)) {
        sched_yield();
    }
    atomic_store(&scene.over, true);
    pthread_join(within, NULL);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("%llu absences and %llu values checked, %llu mappings\n",
           (unsigned long long)scene.absent, (unsigned long long)scene.values,
           (unsigned long long)scene.maps);
    assert_true(atomic_load(&scene.maps) > READERS);
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, boards), 1);
    scene_close(&scene);
}

struct on_applier {
    struct task task;
    struct scene *scene;
    void (*run)(struct scene *scene, void *argument);
    void *argument;
    sem_t done;
};

static void run_on_applier(struct task *task)
{
    struct on_applier *order = CONTAINER_OF(task, struct on_applier, task);
    order->run(order->scene, order->argument);
    sem_post(&order->done);
}

static void on_applier(struct scene *scene, void (*run)(struct scene *, void *), void *argument)
{
    struct on_applier order = {
        .task.run = run_on_applier, .scene = scene, .run = run, .argument = argument};
    sem_init(&order.done, 0, 0);
    mailbox_post(instance_applier(scene->at.instance), &order.task);
    sem_wait(&order.done);
    sem_destroy(&order.done);
}

static void do_nothing(struct scene *scene, void *argument) { (void)scene, (void)argument; }

// What a read at a socket brings about, and a look after it.
static int note_and_look(struct scene *scene, const struct look *look, struct bytes key,
                         struct look_answer *ret_answer)
{
    struct view *view = instance_pin(scene->at.instance);
    note(scene, view, key);
    view_release(view);
    return look_up(look, key, 0, ret_answer);
}

static void do_learn(struct scene *scene, void *argument)
{
    display_learn(scene->at.instance->display, argument);
}

// What is known to change is not put on the board as it was before, though it takes its time.
static void test_learned_only(void **state)
{
    (void)state;
    struct scene scene;
    struct look look;
    struct look_answer answer;
    scene_open(&scene, 2);
    feed_random(&scene.at, &scene.model, 5);
    assert_int_equal(map_newest(&scene, &look), OK);
    struct model_key *key = present_key(&scene.model);
    assert_int_equal(note_and_look(&scene, &look, model_name(key), &answer), OK);
    struct block *block = one_entry(&scene.model, key, false);
    on_applier(&scene, do_learn, block);
    assert_int_equal(look_up(&look, model_name(key), 0, &answer), ERR_INCOMPLETE);
    assert_int_equal(note_and_look(&scene, &look, model_name(key), &answer), ERR_INCOMPLETE);
    test_feed(&scene.at, block);
    block_release(block);
    view_release(test_view(&scene.at, scene.model.index));
    // The filter has known it, and takes it for present: so the board says that it is not.
    assert_int_equal(note_and_look(&scene, &look, model_name(key), &answer), ERR_NOT_FOUND);
    assert_int_equal(answer.index, scene.model.index);
    look_close(&look);
    scene_close(&scene);
}

static _Atomic uint64_t touched_bytes;

static void on_touch(struct instance *instance, struct bytes key, uint64_t bytes)
{
    (void)instance, (void)key;
    atomic_fetch_add(&touched_bytes, bytes);
}

// The role learns what was read by others, as of reads at a socket.
static void test_touched(void **state)
{
    (void)state;
    struct role role = *replica_role();
    role.touch = on_touch;
    struct scene scene;
    struct look look;
    struct look_answer answer;
    scene_open_as(&scene, 7, &role);
    feed_random(&scene.at, &scene.model, 5);
    assert_int_equal(map_newest(&scene, &look), OK);
    struct model_key *key = present_key(&scene.model);
    view_release(change(&scene, key));
    assert_int_equal(note_and_look(&scene, &look, model_name(key), &answer), OK);
    while (atomic_load(&touched_bytes) == 0) {
        on_applier(&scene, do_nothing, NULL);
    }
    assert_int_equal(atomic_load(&touched_bytes), 5);
    look_close(&look);
    scene_close(&scene);
}

// ---- the order at a publication ----------------------------------------------------------------

struct order {
    const struct look *look;
    struct bytes added, changed; // by the next block
    unsigned seen;
};

static _Atomic(struct order *) watched;

void __real_views_publish(struct views *views, struct view *view);
void __wrap_views_publish(struct views *views, struct view *view);

// Just before sockets show a state: its changes have gone into the memory, its index has not.
void __wrap_views_publish(struct views *views, struct view *view)
{
    struct order *order = atomic_load(&watched);
    struct look_answer answer;
    if (order != NULL && order->seen++ == 0) {
        const struct board_page *page = order->look->page;
        CHECK(atomic_load(&page->visible) < view->place.index);
        CHECK(look_up(order->look, order->added, 0, &answer) == ERR_INCOMPLETE);
        CHECK(look_up(order->look, order->changed, 0, &answer) == ERR_INCOMPLETE);
    }
    __real_views_publish(views, view);
}

static struct model_key *absent_key(struct scene *scene, const struct look *look)
{
    struct look_answer answer;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        struct bytes name = model_name(&scene->model.keys[i]);
        if (look_up(look, name, 0, &answer) == ERR_NOT_FOUND) {
            return &scene->model.keys[i];
        }
    }
    return NULL;
}

static void test_order(void **state)
{
    (void)state;
    struct scene scene;
    struct look look;
    struct look_answer answer;
    scene_open(&scene, 6);
    feed_random(&scene.at, &scene.model, 1);
    assert_int_equal(map_newest(&scene, &look), OK);
    struct model_key *changed = present_key(&scene.model), *added = absent_key(&scene, &look);
    assert_int_equal(note_and_look(&scene, &look, model_name(changed), &answer), OK);
    struct order order = {
        .look = &look, .added = model_name(added), .changed = model_name(changed)};
    builder_reset(&scene.model.builder, scene.model.index + 1);
    builder_batch(&scene.model.builder);
    model_entry(&scene.model, added, true, 5);
    model_entry(&scene.model, changed, true, 5);
    model_batch_end(&scene.model);
    struct block *block = model_finish(&scene.model);
    atomic_store(&watched, &order);
    test_feed(&scene.at, block);
    block_release(block);
    view_release(test_view(&scene.at, scene.model.index));
    atomic_store(&watched, NULL);
    on_applier(&scene, do_nothing, NULL);
    assert_int_equal(order.seen, 1);
    assert_int_equal(atomic_load(&look.page->visible), scene.model.index);
    look_close(&look);
    scene_close(&scene);
}

// ---- where memory comes from --------------------------------------------------------------------

static _Atomic uintptr_t region_maker; // the thread that made the last region

int __real_region_create(struct region *ret_region, enum region_kind kind, size_t bytes);
int __wrap_region_create(struct region *ret_region, enum region_kind kind, size_t bytes);

int __wrap_region_create(struct region *ret_region, enum region_kind kind, size_t bytes)
{
    atomic_store(&region_maker, (uintptr_t)pthread_self());
    return __real_region_create(ret_region, kind, bytes);
}

// A filter may be large, and takes long to be allocated: by the walker, not by the applier, for
// which blocks wait.
static void test_walker_allocates(void **state)
{
    (void)state;
    struct scene scene;
    struct look look;
    scene_open(&scene, 9);
    feed_random(&scene.at, &scene.model, 5);
    assert_int_equal(map_newest(&scene, &look), OK);
    atomic_store(&region_maker, 0);
    assert_int_equal(driver_walk(&scene.driver, &scene.at, 100), OK);
    assert_int_equal(atomic_load(&region_maker), (uintptr_t)pthread_self());
    on_applier(&scene, do_nothing, NULL);
    assert_int_equal(look_state(&look), LOOK_OUTGROWN); // it went live
    look_close(&look);
    scene_close(&scene);
}

// ---- what a board must not outlive -------------------------------------------------------------

enum jump { JUMP_AHEAD, JUMP_HISTORY, JUMP_STORE, JUMPS };

// A view of a place that the log has not led to; of another history; of another store at the same
// place, as after a repair.
static void do_jump(struct scene *scene, void *argument)
{
    struct instance *instance = scene->at.instance;
    struct view *newest = instance_pin(instance);
    struct view jumped = {.place = newest->place, .store = newest->store};
    memcpy(jumped.history, newest->history, HISTORY_ID_BYTES);
    switch (*(enum jump *)argument) {
    case JUMP_AHEAD:
        jumped.place.number += 2;
        break;
    case JUMP_HISTORY:
        jumped.history[0] ^= 1;
        break;
    default:
        jumped.store = NULL;
    }
    display_prepare(instance->display, &jumped);
    assert_non_null(jumped.board);
    assert_ptr_not_equal(jumped.board, newest->board);
    board_release(jumped.board);
    view_release(newest);
}

static void test_jump(void **state)
{
    (void)state;
    for (enum jump jump = 0; jump < JUMPS; jump++) {
        struct scene scene;
        struct look look;
        struct look_answer answer;
        scene_open(&scene, 3);
        feed_random(&scene.at, &scene.model, 5);
        assert_int_equal(map_newest(&scene, &look), OK);
        assert_int_equal(look_up(&look, bytes_text("none"), 0, &answer), ERR_NOT_FOUND);
        on_applier(&scene, do_jump, &jump);
        assert_int_equal(look_up(&look, bytes_text("none"), 0, &answer), ERR_INCOMPLETE);
        assert_int_equal(look_state(&look), LOOK_OVER);
        look_close(&look);
        scene_close(&scene);
    }
}

// A block that the board has not seen.
static void test_gap(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 4);
    feed_random(&scene.at, &scene.model, 5);
    struct block *missed = model_block(&scene.model, 1), *next = model_block(&scene.model, 1);
    on_applier(&scene, do_learn, next);
    test_feed(&scene.at, missed);
    test_feed(&scene.at, next);
    view_release(test_view(&scene.at, scene.model.index));
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, boards), 2);
    block_release(missed);
    block_release(next);
    scene_close(&scene);
}

// Where there is no memory for a board nothing is shared, all else goes on, and the next
// publication does not try again at once.
static void test_no_memory(void **state)
{
    (void)state;
    struct scene scene;
    struct look look;
    struct rlimit before, low;
    scene_open(&scene, 8);
    scene.at.options.hot_bytes = 512 * MIB;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = (struct rlimit){.rlim_cur = 256 * MIB, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    feed_random(&scene.at, &scene.model, 3);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(map_newest(&scene, &look), ERR_NOT_FOUND);
    scene.at.options.hot_bytes = HOT_BYTES;
    feed_random(&scene.at, &scene.model, 3);
    assert_int_equal(newest_index(&scene), scene.model.index);
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, boards), 0);
    scene_close(&scene);
}

static void test_not_shared(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 5);
    feed_random(&scene.at, &scene.model, 3);
    struct look look, look_too;
    struct look_answer answer;
    assert_int_equal(map_newest(&scene, &look), OK);
    assert_int_equal(look_up(&look, bytes_text("none"), 0, &answer), ERR_NOT_FOUND);
    assert_int_equal(instance_close(scene.at.instance), INSTANCE_CLOSED);
    assert_int_equal(look_state(&look), LOOK_OVER);
    scene.at.options.share_memory = 0;
    test_instance_open(&scene.node, &scene.at, replica_role());
    assert_int_equal(map_newest(&scene, &look_too), ERR_NOT_FOUND);
    char *path = mem_format("%s/incarnation", scene.at.instance->directory);
    struct incarnation_page page;
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, (void *)&page, sizeof page), sizeof page);
    assert_int_not_equal(atomic_load(&page.number), look.page->incarnation);
    close(fd);
    mem_free(path);
    look_close(&look);
    // What is not shared serves the daemon's own readers.
    struct model_key *key = present_key(&scene.model);
    struct view *view = change(&scene, key);
    uint64_t version;
    note(&scene, view, model_name(key));
    assert_int_equal(look_at(view, key, &version), OK);
    view_release(view);
    assert_int_equal(instance_close(scene.at.instance), INSTANCE_CLOSED);
    scene.at.options.hot_bytes = 0;
    test_instance_open(&scene.node, &scene.at, replica_role());
    assert_null(scene.at.instance->display);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_learned_only),
        cmocka_unit_test(test_touched),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_walker_allocates),
        cmocka_unit_test(test_jump),
        cmocka_unit_test(test_gap),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_not_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
