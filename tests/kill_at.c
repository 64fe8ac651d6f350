/* Preloaded into a run: SIGKILL at the n-th operation on a file below a folder, or after exactly n bytes written there.

   kill_at(folder, operation, bytes) arms it; operation 0 and bytes -1 mean never. operations() and written() count.
   What comes before the chosen point is done, what comes after is not: the file is as a dead machine leaves it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static long at_operation, operations_done, at_bytes = -1, bytes_done;

void kill_at(const char *path, long operation, long bytes) {
    strncpy(folder, path, sizeof folder - 1);
    at_operation = operation, at_bytes = bytes, operations_done = 0, bytes_done = 0;
}
long operations(void) { return operations_done; }
long written(void) { return bytes_done; }

static void die(void) { kill(getpid(), SIGKILL); pause(); }
static int below(const char *path) { return folder[0] && path && strstr(path, folder) == path; }
static int below_fd(int fd) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}
static void operation(void) { if (++operations_done == at_operation) die(); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name, arguments, call)                                                    \
    int name arguments {                                                               \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && below(path)) operation();       \
        return REAL(name) call;                                                        \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))

FILE *fopen(const char *path, const char *how) { if (how[0] != 'r' && below(path)) operation(); return REAL(fopen)(path, how); }
FILE *fopen64(const char *path, const char *how) { if (how[0] != 'r' && below(path)) operation(); return REAL(fopen64)(path, how); }
int rename(const char *from, const char *to) { if (below(from)) operation(); return REAL(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { if (below(path)) operation(); return REAL(mkdir)(path, mode); }
int fsync(int fd) { if (below_fd(fd)) operation(); return REAL(fsync)(fd); }
int rmdir(const char *path) { if (below(path)) operation(); return REAL(rmdir)(path); }
int unlink(const char *path) { if (below(path)) operation(); return REAL(unlink)(path); }
int unlinkat(int at, const char *path, int flags) { if (below_fd(at)) operation(); return REAL(unlinkat)(at, path, flags); }

static size_t allowed(int fd, size_t wanted) {
    if (!below_fd(fd)) return wanted;
    if (at_bytes >= 0 && bytes_done + (long)wanted > at_bytes) return at_bytes - bytes_done;
    bytes_done += wanted;
    return wanted;
}
ssize_t write(int fd, const void *data, size_t size) {
    size_t now = allowed(fd, size);
    ssize_t done = REAL(write)(fd, data, now);
    if (now < size) die();
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    size_t now = allowed(fd, size);
    ssize_t done = REAL(pwrite64)(fd, data, now, offset);
    if (now < size) die();
    return done;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t total = 0;
    if (!below_fd(fd)) return REAL(writev)(fd, parts, count);
    for (int i = 0; i < count; i++) {
        ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0) return total ? total : done;
        total += done;
    }
    return total;
}
