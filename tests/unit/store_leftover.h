// SPDX-License-Identifier: Apache-2.0
// What a killed RocksDB would leave, taken while it is open: all that it has written is in its
// files, whether synced or not, as for the next process after a kill.
#ifndef QS_TESTS_UNIT_STORE_LEFTOVER_H
#define QS_TESTS_UNIT_STORE_LEFTOVER_H

#include <errno.h>

#include "tests/unit/support.h"

// Links (the files of rows, which never change) or copies (the others) a directory's files, but
// for those that go meanwhile.
SUPPORT void leftover_pass(const char *from, const char *to, bool rows)
{
    DIR *directory = opendir(from);
    assert_non_null(directory);
    const struct dirent *file;
    while ((file = readdir(directory)) != NULL) {
        bool is_rows = strstr(file->d_name, ".sst") != NULL;
        if (file->d_name[0] == '.' || strcmp(file->d_name, "LOCK") == 0 || is_rows != rows) {
            continue;
        }
        char *old_path = mem_format("%s/%s", from, file->d_name);
        char *new_path = mem_format("%s/%s", to, file->d_name);
        if (link(old_path, new_path) != 0) {
            assert_true(errno == ENOENT || errno == EEXIST);
        } else if (!is_rows) {
            struct bytes content = test_read_file(to, file->d_name);
            assert_int_equal(unlink(new_path), 0);
            test_write_file(to, file->d_name, content);
            mem_free((void *)content.data);
        }
        mem_free(old_path);
        mem_free(new_path);
    }
    closedir(directory);
}

// Files of rows come and go meanwhile, few of them: what the manifest names is linked first or
// last.
SUPPORT void leftover_copy(const char *from, const char *to)
{
    leftover_pass(from, to, true);
    leftover_pass(from, to, false);
    leftover_pass(from, to, true);
}

#endif
