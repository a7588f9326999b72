/* What a disk can do to a process, done to its calls: preloaded into the server by the tests
 * of tests/e2e. Everything is asked for in the environment:
 *   SHIM_FAIL_SYNC=K    the K-th fdatasync or fsync of a file fails with EIO, and what was
 *                       written to that file since its last sync is taken back, as a kernel
 *                       drops the pages that it could not write
 *   SHIM_FAIL_WRITE=K   the K-th pwrite fails with EIO
 *   SHIM_FULL_WRITE=K   the K-th pwrite fails with ENOSPC
 *   SHIM_SLOW_SYNC=MS   every sync takes so many milliseconds longer
 *   SHIM_CLOCK=FILE     the wall clock is off by the seconds that the file holds
 *   SHIM_ARM=FILE       calls are counted, and slow, only once this file is there
 *   SHIM_MARK=FILE      is made when the failure happens, and names the file: a fault that never fired is no test
 * Only files whose name contains SHIM_PATH are meant. Limits: UNDO_MAX writes of UNDO_BYTES.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define UNDO_MAX 4096

struct undo {
  int fd;
  off_t offset;
  size_t length;
  char *before;
};

static struct undo undos[UNDO_MAX];
static int undo_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_long syncs, writes;

static long asked(const char *name) {
  const char *text = getenv(name);
  return text ? atol(text) : 0;
}

static int armed(void) {
  const char *path = getenv("SHIM_ARM");
  return path == NULL || access(path, F_OK) == 0;
}

static int meant(int fd) {
  const char *part = getenv("SHIM_PATH");
  char link[64], path[PATH_MAX];
  ssize_t length;
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return part == NULL || strstr(path, part) != NULL;
}

static void mark(int fd) {
  const char *path = getenv("SHIM_MARK");
  struct timespec now;
  char text[PATH_MAX + 64], link[64], name[PATH_MAX] = "";
  int file, length;
  if (path == NULL) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  if (fd >= 0 && readlink(link, name, sizeof name - 1) < 0) name[0] = 0;
  clock_gettime(CLOCK_MONOTONIC, &now);
  length = snprintf(text, sizeof text, "%lld.%09ld %s\n", (long long)now.tv_sec, now.tv_nsec,
                    name);
  file = open(path, O_CREAT | O_WRONLY | O_EXCL, 0600);
  if (file < 0) return;
  if (write(file, text, length) != length) abort();
  close(file);
}

static ssize_t real_pwrite(int fd, const void *data, size_t length, off_t offset) {
  static ssize_t (*next)(int, const void *, size_t, off_t);
  if (next == NULL) next = dlsym(RTLD_NEXT, "pwrite64");
  return next(fd, data, length, offset);
}

static void remember(int fd, size_t length, off_t offset) {
  struct undo *undo;
  ssize_t got;
  pthread_mutex_lock(&lock);
  if (undo_count < UNDO_MAX) {
    undo = &undos[undo_count];
    undo->before = malloc(length);
    got = undo->before ? pread(fd, undo->before, length, offset) : -1;
    if (got >= 0) {
      undo->fd = fd;
      undo->offset = offset;
      undo->length = got;
      undo_count++;
    } else {
      free(undo->before);
    }
  }
  pthread_mutex_unlock(&lock);
}

/* Forgets the writes to a file, or takes them back, the last one first. */
static void settle(int fd, int take_back) {
  int at, kept = 0;
  pthread_mutex_lock(&lock);
  for (at = undo_count - 1; at >= 0; at--) {
    struct undo *undo = &undos[at];
    if (undo->fd != fd) continue;
    if (take_back) real_pwrite(fd, undo->before, undo->length, undo->offset);
    free(undo->before);
    undo->before = NULL;
  }
  for (at = 0; at < undo_count; at++)
    if (undos[at].before != NULL) undos[kept++] = undos[at];
  undo_count = kept;
  pthread_mutex_unlock(&lock);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
  if (!meant(fd)) return real_pwrite(fd, data, length, offset);
  long place = armed() ? atomic_fetch_add(&writes, 1) + 1 : -1;
  if (place == asked("SHIM_FAIL_WRITE")) {
    mark(fd);
    errno = EIO;
    return -1;
  }
  if (place == asked("SHIM_FULL_WRITE")) {
    mark(fd);
    errno = ENOSPC;
    return -1;
  }
  if (asked("SHIM_FAIL_SYNC") > 0) remember(fd, length, offset);
  return real_pwrite(fd, data, length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  return pwrite64(fd, data, length, offset);
}

static int synced(int fd, const char *name) {
  int (*next)(int) = dlsym(RTLD_NEXT, name);
  int result;
  long slow = asked("SHIM_SLOW_SYNC");
  if (!meant(fd)) return next(fd);
  if (slow > 0 && armed()) {
    struct timespec pause = {slow / 1000, slow % 1000 * 1000000};
    nanosleep(&pause, NULL);
    mark(fd);
  }
  if (armed() && atomic_fetch_add(&syncs, 1) + 1 == asked("SHIM_FAIL_SYNC")) {
    settle(fd, 1);
    mark(fd);
    errno = EIO;
    return -1;
  }
  result = next(fd);
  if (result == 0) settle(fd, 0);
  return result;
}

int fdatasync(int fd) { return synced(fd, "fdatasync"); }
int fsync(int fd) { return synced(fd, "fsync"); }

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*next)(clockid_t, struct timespec *);
  const char *path;
  int result;
  if (next == NULL) next = dlsym(RTLD_NEXT, "clock_gettime");
  result = next(clock, now);
  path = getenv("SHIM_CLOCK");
  if (result == 0 && clock == CLOCK_REALTIME && path != NULL) {
    char text[32];
    int file = open(path, O_RDONLY);
    if (file >= 0) {
      ssize_t length = read(file, text, sizeof text - 1);
      close(file);
      if (length > 0) {
        text[length] = 0;
        now->tv_sec += atol(text);
        if (atol(text) != 0) mark(-1);
      }
    }
  }
  return result;
}
