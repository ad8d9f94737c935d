// SPDX-License-Identifier: Apache-2.0
// Addresses: good and bad texts, listening on what is in use or left over, refused connections.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/io/address.h"

#define PATH_107 "/234567890123456789012345678901234567890123456789012345678901234567890123456789" \
                 "0123456789012345678901234567"

static void test_good_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *shown;
    } rows[] = {
        {"127.0.0.1:7400", "127.0.0.1:7400"},
        {"0.0.0.0:0", "0.0.0.0:0"},
        {"255.255.255.255:65535", "255.255.255.255:65535"},
        {"localhost:1", "127.0.0.1:1"},
        {"10.0.0.1:0080", "10.0.0.1:80"},
        {"[::1]:7400", "[::1]:7400"},
        {"[::]:1", "[::]:1"},
        {"[2001:DB8:0:0::5]:65535", "[2001:db8::5]:65535"},
        {"[::ffff:1.2.3.4]:5", "[::ffff:1.2.3.4]:5"},
        {"unix:/run/qs/qs.sock", "unix:/run/qs/qs.sock"},
        {"unix:/a b:c", "unix:/a b:c"},
        {"unix:" PATH_107, "unix:" PATH_107},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct address address;
        const char *reason = NULL;
        char text[ADDRESS_TEXT_BYTES];
        assert_int_equal(address_parse(&address, rows[i].text, &reason), OK);
        assert_null(reason);
        address_text(&address, text);
        assert_string_equal(text, rows[i].shown);
    }
}

static void test_bad_texts(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", ":", ":7400", "7400", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
        "127.0.0.1:-1", "127.0.0.1: 1", "127.0.0.1:1 ", "127.0.0.1:99999999999999999999",
        "127.0.0:1", "127.0.0.256:1", "127.0.0.1:1:2", "::1:7400", "[::1]", "[::1]7400", "[::1]:",
        "[::1:7400", "[]:1", "[127.0.0.1]:1", "[localhost]:1", "[::1%lo]:1", "example.org:1",
        "*:1", " 127.0.0.1:1", "unix:", "unix:relative", "unix:@abstract", "unix:" PATH_107 "8",
        "UNIX:/x", "tcp://127.0.0.1:1",
        "0000000000000000000000000000000000000000000000000000000000000000000000000000:1",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct address address = {.length = 12345};
        const char *reason = NULL;
        if (address_parse(&address, texts[i], &reason) != ERR_CONFIG) {
            fail_msg("'%s' was taken", texts[i]);
        }
        assert_non_null(reason);
        assert_int_equal(address.length, 12345);
    }
}

static void parse(struct address *ret_address, const char *text)
{
    const char *reason = "";
    assert_int_equal(address_parse(ret_address, text, &reason), OK);
}

static void test_port_in_use(void **state)
{
    (void)state;
    struct address address;
    const char *reason = NULL;
    int fd;
    int second = -1;
    parse(&address, "127.0.0.1:0");
    assert_int_equal(address_listen(&address, &fd, &reason), OK);
    assert_int_equal(address_of_socket(fd, &address), OK);
    char text[ADDRESS_TEXT_BYTES];
    address_text(&address, text);
    assert_string_not_equal(text, "127.0.0.1:0");
    assert_int_equal(address_listen(&address, &second, &reason), ERR_IO);
    assert_int_equal(second, -1);
    assert_string_equal(reason, "Address already in use");
    close(fd);
    assert_int_equal(address_listen(&address, &fd, &reason), OK);
    close(fd);
}

static void test_connect(void **state)
{
    (void)state;
    struct address address;
    const char *reason = NULL;
    int listener;
    int fd = -1;
    parse(&address, "127.0.0.1:0");
    assert_int_equal(address_listen(&address, &listener, &reason), OK);
    assert_int_equal(address_of_socket(listener, &address), OK);
    assert_int_equal(address_connect(&address, &fd), OK);
    assert_int_equal(address_connected(fd), OK);
    struct address peer;
    char here[ADDRESS_TEXT_BYTES];
    char there[ADDRESS_TEXT_BYTES];
    assert_int_equal(address_of_peer(fd, &peer), OK);
    address_text(&peer, here);
    address_text(&address, there);
    assert_string_equal(here, there);
    close(fd);
    close(listener);
    // On the loopback the refusal may come at once, or with the result.
    int error = address_connect(&address, &fd);
    if (error == OK) {
        error = address_connected(fd);
        close(fd);
    }
    assert_int_equal(error, ERR_REFUSED);
}

static void test_unix_socket_files(void **state)
{
    (void)state;
    char directory[] = "/tmp/qs-address-XXXXXX";
    assert_non_null(mkdtemp(directory));
    char *text = mem_format("unix:%s/s", directory);
    const char *path = text + 5;
    struct address address;
    const char *reason = NULL;
    int fd;
    int other = -1;
    parse(&address, text);
    assert_int_equal(address_connect(&address, &other), ERR_REFUSED); // no such file
    assert_int_equal(address_listen(&address, &fd, &reason), OK);
    assert_int_equal(address_listen(&address, &other, &reason), ERR_IO); // somebody listens
    assert_string_equal(reason, "Address already in use");
    assert_int_equal(address_connect(&address, &other), OK);
    struct address peer;
    char shown[ADDRESS_TEXT_BYTES];
    assert_int_equal(address_of_peer(other, &peer), OK);
    address_text(&peer, shown);
    assert_string_equal(shown, text);
    assert_int_equal(address_of_socket(other, &peer), OK);
    address_text(&peer, shown);
    assert_string_equal(shown, "unix:");
    close(other);
    close(fd); // the file stays, as after a crash
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(address_connect(&address, &other), ERR_REFUSED);
    assert_int_equal(address_listen(&address, &fd, &reason), OK);
    close(fd);
    // What is no socket is never removed.
    assert_int_equal(unlink(path), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(address_listen(&address, &fd, &reason), ERR_IO);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    rmdir(directory);
    mem_free(text);
}

static void test_unix_queue_full(void **state)
{
    (void)state;
    char directory[] = "/tmp/qs-address-XXXXXX";
    assert_non_null(mkdtemp(directory));
    char *text = mem_format("unix:%s/s", directory);
    struct address address;
    const char *reason = NULL;
    int fd;
    int fds[8];
    size_t count = 0;
    parse(&address, text);
    assert_int_equal(address_listen(&address, &fd, &reason), OK);
    assert_int_equal(listen(fd, 1), 0);
    int error = OK;
    while (error == OK && count < ARRAY_LEN(fds)) {
        error = address_connect(&address, &fds[count]);
        count += error == OK;
    }
    assert_int_equal(error, ERR_BUSY);
    int other = -1;
    assert_int_equal(address_listen(&address, &other, &reason), ERR_IO); // busy is not stale
    while (count > 0) {
        close(fds[--count]);
    }
    close(fd);
    unlink(text + 5);
    rmdir(directory);
    mem_free(text);
}

// An address of every host is that port at the host that one was reached from; any other stays.
static void test_at_host(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"0.0.0.0:7400", "10.0.0.9:51234", "10.0.0.9:7400"},
        {"[::]:7400", "[fd00::9]:51234", "[fd00::9]:7400"},
        {"[::]:7400", "10.0.0.9:51234", "10.0.0.9:7400"},
        {"10.0.0.1:7400", "10.0.0.9:51234", "10.0.0.1:7400"},
        {"unix:/run/a", "10.0.0.9:51234", "unix:/run/a"},
        {"0.0.0.0:7400", "unix:/run/a", "unix:/run/a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct address address, from;
        char text[ADDRESS_TEXT_BYTES];
        parse(&address, rows[i][0]);
        parse(&from, rows[i][1]);
        address_at_host(&address, &from);
        address_text(&address, text);
        assert_string_equal(text, rows[i][2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_texts),        cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_port_in_use),       cmocka_unit_test(test_connect),
        cmocka_unit_test(test_unix_socket_files), cmocka_unit_test(test_unix_queue_full),
        cmocka_unit_test(test_at_host),
    };
    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
