// SPDX-License-Identifier: Apache-2.0
// A library to be preloaded into qsd by tests that cut the power. It notes, for each regular file,
// how long the file was when its last successful fsync or fdatasync began, and for each directory,
// which files stood in it at its last fsync. After a kill -9 the test cuts every journal file back
// to the noted length and removes those that no synced directory names: what is left is what a
// disk would have kept in the worst case.
//
// Notes are one small file each, named by device and inode, below $QS_POWERCUT; they are written
// after the sync succeeded and before the caller hears of it, so that a note never claims more
// than is true, and whatever the daemon believes to be synced is noted. They survive the kill,
// because only the process dies, not the kernel. Any thread.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTE_PATH_BYTES 512

static int note_path(char *path, const struct stat *about, const char *kind)
{
    const char *directory = getenv("QS_POWERCUT");
    if (directory == NULL) {
        return -1;
    }
    snprintf(path, NOTE_PATH_BYTES, "%s/%llu-%llu.%s", directory,
             (unsigned long long)about->st_dev, (unsigned long long)about->st_ino, kind);
    return 0;
}

// One pwrite of eight bytes into the page cache: whole or not at all.
static void note_size(const struct stat *about, uint64_t size)
{
    char path[NOTE_PATH_BYTES];
    if (note_path(path, about, "size") != 0) {
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (pwrite(fd, &size, sizeof size, 0) != (ssize_t)sizeof size) {
            abort();
        }
        close(fd);
    }
}

static void note_forget(const struct stat *about)
{
    char path[NOTE_PATH_BYTES];
    if (note_path(path, about, "size") == 0) {
        unlink(path);
    }
}

// The inodes of a directory's entries, one a line; complete when the name is (rename).
static void note_directory(int fd, const struct stat *about)
{
    char path[NOTE_PATH_BYTES], fresh[NOTE_PATH_BYTES], own[64];
    if (note_path(path, about, "entries") != 0 || note_path(fresh, about, "entries.new") != 0) {
        return;
    }
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    DIR *directory = opendir(own);
    FILE *note = directory != NULL ? fopen(fresh, "we") : NULL;
    if (note != NULL) {
        for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
            fprintf(note, "%llu\n", (unsigned long long)entry->d_ino);
        }
        fclose(note);
        rename(fresh, path);
    }
    if (directory != NULL) {
        closedir(directory);
    }
}

static int synced(int fd, int (*sync)(int))
{
    struct stat before;
    int known = fstat(fd, &before);
    int result = sync(fd);
    int error = errno;
    if (result == 0 && known == 0) {
        if (S_ISREG(before.st_mode)) {
            note_size(&before, (uint64_t)before.st_size);
        } else if (S_ISDIR(before.st_mode)) {
            note_directory(fd, &before);
        }
    }
    errno = error;
    return result;
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))(intptr_t)dlsym(RTLD_NEXT, "fdatasync");
    return synced(fd, real);
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))(intptr_t)dlsym(RTLD_NEXT, "fsync");
    return synced(fd, real);
}

// What is cut off and written anew is not synced any more.
int ftruncate(int fd, off_t size)
{
    int (*real)(int, off_t) = (int (*)(int, off_t))(intptr_t)dlsym(RTLD_NEXT, "ftruncate");
    struct stat about;
    char path[NOTE_PATH_BYTES];
    uint64_t noted = 0;
    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && note_path(path, &about, "size") == 0) {
        int note = open(path, O_RDONLY | O_CLOEXEC);
        if (note >= 0) {
            if (pread(note, &noted, sizeof noted, 0) == (ssize_t)sizeof noted &&
                noted > (uint64_t)size) {
                note_size(&about, (uint64_t)size);
            }
            close(note);
        }
    }
    return real(fd, size);
}

// An inode's number is used again: the note must not outlive the file.
int unlink(const char *path)
{
    int (*real)(const char *) = (int (*)(const char *))(intptr_t)dlsym(RTLD_NEXT, "unlink");
    struct stat about;
    int known = getenv("QS_POWERCUT") != NULL ? lstat(path, &about) : -1;
    int result = real(path);
    if (result == 0 && known == 0 && about.st_nlink == 1) {
        int error = errno;
        char note[NOTE_PATH_BYTES];
        if (note_path(note, &about, "size") == 0) {
            real(note);
        }
        errno = error;
    }
    return result;
}

int unlinkat(int fd, const char *path, int flags)
{
    int (*real)(int, const char *, int) =
        (int (*)(int, const char *, int))(intptr_t)dlsym(RTLD_NEXT, "unlinkat");
    struct stat about;
    int known = fstatat(fd, path, &about, AT_SYMLINK_NOFOLLOW);
    int result = real(fd, path, flags);
    if (result == 0 && known == 0 && S_ISREG(about.st_mode) && about.st_nlink == 1) {
        int error = errno;
        note_forget(&about);
        errno = error;
    }
    return result;
}
