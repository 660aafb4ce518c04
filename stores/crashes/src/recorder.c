/* A library that is preloaded: it records the operations of a program on the files of one folder, each step when it
 * is done, and may kill the program right before one. See lib.rs for the format. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ssize_t (*real_write)(int, const void *, size_t);
static const char *folder;
static int journal = -1;
static long left = -1; /* the number of steps before the kill; negative: no kill */

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
  real_write = (__typeof__(real_write))dlsym(RTLD_NEXT, "write");
  folder = getenv("INFLIGHT_CRASHES_FOLDER");
  const char *path = getenv("INFLIGHT_CRASHES_JOURNAL"), *steps = getenv("INFLIGHT_CRASHES_STEPS");
  if (folder && path) journal = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (steps) left = atol(steps);
}

static int concerns(const char *path) {
  return journal >= 0 && path && strncmp(path, folder, strlen(folder)) == 0;
}

/* The name of an open file; NULL if it is not in the folder. */
static const char *name_of(int fd, char *name) {
  char link[64];
  if (journal < 0) return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, PATH_MAX - 1);
  if (length < 0) return NULL;
  name[length] = 0;
  return concerns(name) ? name : NULL;
}

/* Before a step. */
static void enter(void) {
  pthread_mutex_lock(&lock);
  if (left == 0) raise(SIGKILL);
  if (left > 0) left--;
}

/* After a step. */
static void leave(int is_done, const char *what, const char *name, const char *other, long number, const void *bytes,
                  size_t length) {
  int error = errno;
  if (is_done) {
    char head[2 * PATH_MAX + 100];
    int size = snprintf(head, sizeof head, "%s\t%s\t%s\t%ld\t%zu\n", what, name, other, number, length);
    if (real_write(journal, head, size) != size || real_write(journal, bytes, length) != (ssize_t)length) abort();
  }
  pthread_mutex_unlock(&lock);
  errno = error;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  char name[PATH_MAX];
  if (!name_of(fd, name)) return real_write(fd, bytes, length);
  enter();
  ssize_t done = real_write(fd, bytes, length);
  leave(done > 0, "write", name, "", done > 0 ? (long)lseek(fd, 0, SEEK_CUR) - done : 0, bytes, done > 0 ? done : 0);
  return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
  REAL(pwrite64);
  char name[PATH_MAX];
  if (!name_of(fd, name)) return real(fd, bytes, length, offset);
  enter();
  ssize_t done = real(fd, bytes, length, offset);
  leave(done > 0, "write", name, "", offset, bytes, done > 0 ? done : 0);
  return done;
}

static int sync_one(int fd, int (*real)(int)) {
  char name[PATH_MAX];
  if (!name_of(fd, name)) return real(fd);
  enter();
  int failed = real(fd);
  leave(!failed, "sync", name, "", 0, "", 0);
  return failed;
}

int fsync(int fd) {
  REAL(fsync);
  return sync_one(fd, real);
}

int fdatasync(int fd) {
  REAL(fdatasync);
  return sync_one(fd, real);
}

int ftruncate64(int fd, off64_t size) {
  REAL(ftruncate64);
  char name[PATH_MAX];
  if (!name_of(fd, name)) return real(fd, size);
  enter();
  int failed = real(fd, size);
  leave(!failed, "cut", name, "", size, "", 0);
  return failed;
}

int open64(const char *path, int flags, ...) {
  REAL(open64);
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = (flags & O_CREAT) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (!concerns(path) || !(flags & (O_CREAT | O_TRUNC))) return real(path, flags, mode);
  enter();
  int is_new = access(path, F_OK) != 0;
  int fd = real(path, flags, mode);
  int changes = fd >= 0 && (is_new || (flags & O_TRUNC));
  leave(changes, is_new ? "make" : "cut", path, "", 0, "", 0);
  return fd;
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  if (!concerns(path)) return real(path, mode);
  enter();
  int failed = real(path, mode);
  leave(!failed, "folder", path, "", 0, "", 0);
  return failed;
}

int rename(const char *from, const char *to) {
  REAL(rename);
  if (!concerns(from)) return real(from, to);
  enter();
  int failed = real(from, to);
  leave(!failed, "rename", from, to, 0, "", 0);
  return failed;
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  REAL(linkat);
  if (!concerns(from)) return real(from_folder, from, to_folder, to, flags);
  enter();
  int failed = real(from_folder, from, to_folder, to, flags);
  leave(!failed, "link", from, to, 0, "", 0);
  return failed;
}

int unlink(const char *path) {
  REAL(unlink);
  if (!concerns(path)) return real(path);
  enter();
  int failed = real(path);
  leave(!failed, "remove", path, "", 0, "", 0);
  return failed;
}
