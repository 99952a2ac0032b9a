/* A disk that fails, for programs started with LD_PRELOAD.
 *
 * FAULTS_PREFIX  files whose path begins so are affected
 *
 * Writes and syncs fail at random:
 * FAULTS_SWITCH  only while a file of this name is there
 * FAULTS_ONE_IN  one call in so many
 * FAULTS_WRITES  if "no", only syncs
 * A write that fails has written nothing or, every third time, its first half. The error is EIO or ENOSPC;
 * that of a sync is EIO.
 *
 * What a power cut leaves behind:
 * FAULTS_SYNCED  a folder in which each file is kept as it was when it was synced last, until it is deleted
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static unsigned state;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static unsigned draw(void)
{
    pthread_mutex_lock(&mutex);
    if (state == 0)
        state = (unsigned)getpid() ^ (unsigned)time(NULL) ^ 1u;
    unsigned value = (unsigned)rand_r(&state);
    pthread_mutex_unlock(&mutex);
    return value;
}

/* The path of an affected file, or nothing. */
static int affected(int fd, char path[static 4096])
{
    const char *prefix = getenv("FAULTS_PREFIX");
    char link[64];
    if (prefix == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

static int fails(int fd)
{
    const char *toggle = getenv("FAULTS_SWITCH");
    const char *one_in = getenv("FAULTS_ONE_IN");
    char path[4096];
    if (toggle == NULL || one_in == NULL)
        return 0;
    int before = errno;
    int hit = affected(fd, path) && access(toggle, F_OK) == 0 && draw() % (unsigned)atoi(one_in) == 0;
    errno = before;
    return hit;
}

static int write_fails(int fd)
{
    const char *writes = getenv("FAULTS_WRITES");
    return (writes == NULL || strcmp(writes, "no") != 0) && fails(fd);
}

/* Keep a file that was just synced as it is. The copy takes the place of the last one at once. */
static void keep(int fd)
{
    static ssize_t (*real)(int, const void *, size_t);
    const char *folder = getenv("FAULTS_SYNCED");
    char path[4096], copy[4200], partial[4300], data[1 << 16];
    if (folder == NULL || !affected(fd, path))
        return;
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    snprintf(copy, sizeof copy, "%s/%s", folder, strrchr(path, '/') + 1);
    snprintf(partial, sizeof partial, "%s.partial", copy);
    int to = open(partial, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    off_t at = 0;
    ssize_t size;
    while ((size = pread(fd, data, sizeof data, at)) > 0) {
        if (real(to, data, (size_t)size) != size)
            abort();
        at += size;
    }
    close(to);
    rename(partial, copy);
}

static int write_error(void)
{
    return draw() % 2 ? EIO : ENOSPC;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pwrite64");
    if (!write_fails(fd))
        return real(fd, data, size, offset);
    if (draw() % 3 == 0)
        real(fd, data, size / 2, offset);
    errno = write_error();
    return -1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    if (!write_fails(fd))
        return real(fd, data, size);
    errno = write_error();
    return -1;
}

int fsync(int fd)
{
    static int (*real)(int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    int result = real(fd);
    if (result == 0)
        keep(fd);
    return result;
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    int result = real(fd);
    if (result == 0)
        keep(fd);
    return result;
}

int unlink(const char *path)
{
    static int (*real)(const char *);
    const char *folder = getenv("FAULTS_SYNCED");
    const char *prefix = getenv("FAULTS_PREFIX");
    char copy[4200];
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "unlink");
    int result = real(path);
    if (result == 0 && folder != NULL && prefix != NULL && strncmp(path, prefix, strlen(prefix)) == 0) {
        snprintf(copy, sizeof copy, "%s/%s", folder, strrchr(path, '/') + 1);
        real(copy);
    }
    return result;
}
