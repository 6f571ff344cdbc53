/* load: many connections over one Unix socket, each asking one request at a time.
 *
 *   cc -O2 -o load load.c
 *   ./load [OPTION ...] SOCKET CONNECTIONS SECONDS TEMPLATE[*TIMES] ...
 *
 *   -b TEMPLATE   before: each connection sends it once, before anything is timed; may be given more than once
 *   -a TEMPLATE   after: the same at the end
 *   -w SECONDS    warm-up: so long the load runs untimed first (0)
 *   -s            spread: each connection begins at another place of the round, as holders in life do
 *   -i MICROS     each connection sends at most once in so many microseconds
 *   -n NUMBER     of the first connection (0)
 *   -p PID        whose processor time is reported beside our own, of its first thread
 *
 * Each connection goes round the templates in order (TIMES each, 1 unless told): it sends the bytes of the file, waits
 * for the whole reply, goes on. "########" in a template becomes the connection's number, so that every connection is a
 * holder of its own; "@@@@@@@@@@" becomes 1000000000 plus the milliseconds since the start, at each send (a server that
 * takes the time from its clients writes it).
 *
 * A template's first byte says what a reply looks like: '*' a Redis reply; 0x94 a MessagePack-RPC response; anything
 * else comes back as it was sent. With an = before its name any template comes back as it was sent, as from an echo
 * server. A reply is an error if it starts with '-' or is nil (Redis), if its error is not nil (MessagePack-RPC), if it
 * is none of these, or if it lacks the bytes in the file TEMPLATE.expect, where there is one.
 *
 * Prints one JSON object. At the first error reply it ends: with status 3, and {"error": {"template", "reply" in hex}}.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_TEMPLATES = 16,
    MAX_STEPS = 32,
    MAX_SAMPLES = 1 << 23, /* of one template; memory is touched only as far as it is used */
    MAX_BYTES = 16 * 1024,
    MAX_DEPTH = 16,
    SILENCE_MS = 10000,
    ERROR_STATUS = 3,
};

enum kind { REDIS, RPC, ECHO };
enum phase { BEFORE, READY, ROUND, AFTER, DONE };

struct template {
    const char *name;
    enum kind kind;
    size_t len, expect_len, count;
    char bytes[MAX_BYTES], expect[256];
    float *samples; /* microseconds */
};
struct step { int template, times; };
struct conn {
    int fd, place, done, waiting;
    enum phase phase;
    double sent;
    size_t used;
    char *bytes[MAX_TEMPLATES], *clock[MAX_TEMPLATES];
    unsigned char reply[MAX_BYTES];
};

static struct template templates[MAX_TEMPLATES];
static struct step before[MAX_STEPS], after[MAX_STEPS], rounds[MAX_STEPS];
static int ntemplates, nbefore, nafter, nrounds;
static double start;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) { perror(what); exit(1); }

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static size_t read_file(const char *path, char *into, size_t size) {
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    size_t len = fread(into, 1, size, f);
    fclose(f);
    return len;
}

/* TEMPLATE[*TIMES]; a file named twice is one template. */
static struct step read_step(char *arg) {
    struct step s = {.times = 1};
    char *star = strchr(arg, '*');
    if (star) { s.times = atoi(star + 1); *star = 0; }
    for (s.template = 0; s.template < ntemplates; s.template++)
        if (!strcmp(templates[s.template].name, arg)) return s;
    if (ntemplates == MAX_TEMPLATES) { fprintf(stderr, "too many templates\n"); exit(2); }
    struct template *t = &templates[ntemplates++];
    const char *path = arg[0] == '=' ? arg + 1 : arg;
    char expect[4096];
    t->name = arg;
    if (!(t->len = read_file(path, t->bytes, sizeof t->bytes))) die(path);
    t->kind = arg[0] == '=' ? ECHO : t->bytes[0] == '*' ? REDIS : (unsigned char)t->bytes[0] == 0x94 ? RPC : ECHO;
    snprintf(expect, sizeof expect, "%s.expect", path);
    t->expect_len = read_file(expect, t->expect, sizeof t->expect);
    if (!(t->samples = malloc(MAX_SAMPLES * sizeof *t->samples))) die("malloc");
    return s;
}

static void add_step(struct step *list, int *n, char *arg) {
    if (*n == MAX_STEPS) { fprintf(stderr, "too many templates\n"); exit(2); }
    list[(*n)++] = read_step(arg);
}

/* --- replies: the length of the first whole one, 0 if it is not whole yet, -1 if it is none ----------------------- */

static uint64_t big_endian(const unsigned char *p, int bytes) {
    uint64_t n = 0;
    while (bytes--) n = n << 8 | *p++;
    return n;
}

static ssize_t rpc_value(const unsigned char *p, size_t have, int depth) {
    if (!have) return 0;
    if (depth > MAX_DEPTH) return -1;
    unsigned char c = *p;
    uint64_t header = 1, bytes = 0, items = 0;
    if (c <= 0x7f || c >= 0xe0 || c == 0xc0 || c == 0xc2 || c == 0xc3) return 1;
    if (c <= 0x8f) items = (c & 15) * 2;
    else if (c <= 0x9f) items = c & 15;
    else if (c <= 0xbf) bytes = c & 31;
    else if (c >= 0xcc && c <= 0xd3) bytes = 1u << ((c - 0xcc) & 3);
    else if (c == 0xca) bytes = 4;
    else if (c == 0xcb) bytes = 8;
    else {
        int width, map = 0, array = 0;
        if (c >= 0xc4 && c <= 0xc6) width = 1 << (c - 0xc4);
        else if (c >= 0xd9 && c <= 0xdb) width = 1 << (c - 0xd9);
        else if (c == 0xdc || c == 0xdd) { width = 2 << (c - 0xdc); array = 1; }
        else if (c == 0xde || c == 0xdf) { width = 2 << (c - 0xde); map = 1; }
        else return -1; /* extension types: licd sends none */
        if (have < (size_t)width + 1) return 0;
        header += width;
        uint64_t n = big_endian(p + 1, width);
        if (array || map) items = map ? n * 2 : n;
        else bytes = n;
    }
    uint64_t at = header + bytes;
    if (at > have) return at > MAX_BYTES ? -1 : 0;
    while (items--) {
        ssize_t one = rpc_value(p + at, have - at, depth + 1);
        if (one <= 0) return one;
        at += one;
    }
    return at;
}

static ssize_t redis_reply(const unsigned char *p, size_t have) {
    const unsigned char *end = memmem(p, have, "\r\n", 2);
    if (!end) return 0;
    ssize_t line = end - p + 2;
    if (*p == '+' || *p == '-' || *p == ':') return line;
    if (*p != '$') return -1; /* arrays: none of our requests gets one */
    long n = atol((const char *)p + 1);
    if (n < 0) return line;
    return (size_t)(line + n + 2) <= have ? line + n + 2 : 0;
}

static ssize_t whole(const struct template *t, const unsigned char *p, size_t have) {
    if (t->kind == RPC) return rpc_value(p, have, 0);
    if (t->kind == REDIS) return redis_reply(p, have);
    return have >= t->len ? (ssize_t)t->len : 0;
}

static int is_error(const struct conn *c, int k, size_t n) {
    const struct template *t = &templates[k];
    const unsigned char *p = c->reply;
    if (t->kind == ECHO) return memcmp(p, c->bytes[k], n) != 0;
    if (t->expect_len && !memmem(p, n, t->expect, t->expect_len)) return 1;
    if (t->kind == REDIS) return p[0] == '-' || !memcmp(p, "$-1", 3);
    if (n < 4 || p[0] != 0x94 || p[1] != 1) return 1;
    ssize_t msgid = rpc_value(p + 2, n - 2, 0);
    return msgid <= 0 || p[2 + msgid] != 0xc0;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static struct step *steps_of(const struct conn *c, int *n) {
    *n = c->phase == BEFORE ? nbefore : c->phase == AFTER ? nafter : nrounds;
    return c->phase == BEFORE ? before : c->phase == AFTER ? after : rounds;
}

static int template_of(const struct conn *c) {
    int n;
    return steps_of(c, &n)[c->place].template;
}

static void ask(struct conn *c, double at) {
    int k = template_of(c);
    c->sent = at;
    c->waiting = 1;
    if (c->clock[k]) {
        char digits[24];
        snprintf(digits, sizeof digits, "%010lu", 1000000000UL + (unsigned long)((at - start) * 1000));
        memcpy(c->clock[k], digits, 10);
    }
    if (write(c->fd, c->bytes[k], templates[k].len) != (ssize_t)templates[k].len) die("write");
}

/* The next place of the connection's list; false at its end. */
static int advance(struct conn *c) {
    int n;
    struct step *steps = steps_of(c, &n);
    if (++c->done < steps[c->place].times) return 1;
    c->done = 0;
    return ++c->place < n;
}

static void enter(struct conn *c, enum phase phase) {
    c->phase = phase;
    c->place = c->done = 0;
    if (phase == AFTER && !nafter) c->phase = DONE;
    if (phase == BEFORE && !nbefore) c->phase = READY;
}

static void open_connection(struct conn *c, const char *path, int number, int ep) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    char digits[16];
    snprintf(digits, sizeof digits, "%08d", number % 100000000);
    for (int k = 0; k < ntemplates; k++) {
        char *b = c->bytes[k] = malloc(templates[k].len), *at;
        memcpy(b, templates[k].bytes, templates[k].len);
        while ((at = memmem(b, templates[k].len, "########", 8))) memcpy(at, digits, 8);
        c->clock[k] = memmem(b, templates[k].len, "@@@@@@@@@@", 10);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
    enter(c, BEFORE);
}

/* --- figures ------------------------------------------------------------------------------------------------------ */

static double own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static double cpu_of(int pid) {
    char path[64], text[128] = "";
    if (!pid) return 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    read_file(path, text, sizeof text - 1);
    return strtod(text, NULL) * 1e-9;
}

static void print_latency(float *samples, size_t n) {
    qsort(samples, n, sizeof *samples, ascending);
    printf("\"count\": %zu", n);
    if (n) printf(", \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f", samples[n / 2], samples[(size_t)(n * .99)], samples[n - 1]);
}

static void complain(const struct conn *c, const char *name, size_t n) {
    printf("{\"error\": {\"template\": \"%s\", \"reply\": \"", name);
    for (size_t i = 0; i < n && i < 1024; i++) printf("%02x", c->reply[i]);
    printf("\"}}\n");
    exit(ERROR_STATUS);
}

static void usage(void) {
    fprintf(stderr, "usage: load [OPTION ...] SOCKET CONNECTIONS SECONDS TEMPLATE[*TIMES] ...; load.c says more\n");
    exit(2);
}

int main(int argc, char **argv) {
    double warmup = 0;
    long micros = 0;
    int spread = 0, first = 0, pid = 0, option;
    while ((option = getopt(argc, argv, "+b:a:w:si:n:p:")) != -1) switch (option) {
        case 'b': add_step(before, &nbefore, optarg); break;
        case 'a': add_step(after, &nafter, optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 's': spread = 1; break;
        case 'i': micros = atol(optarg); break;
        case 'n': first = atoi(optarg); break;
        case 'p': pid = atoi(optarg); break;
        default: usage();
    }
    if (argc - optind < 4) usage();
    const char *path = argv[optind];
    int n = atoi(argv[optind + 1]);
    double seconds = atof(argv[optind + 2]);
    for (int i = optind + 3; i < argc; i++) add_step(rounds, &nrounds, argv[i]);
    if (n < 1 || seconds <= 0) usage();

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int ep = epoll_create1(0), timer = -1;
    struct conn *conns = calloc(n, sizeof *conns);
    if (!conns) die("calloc");
    for (int i = 0; i < n; i++) open_connection(&conns[i], path, first + i, ep);
    if (micros) {
        struct timespec each = {micros / 1000000, micros % 1000000 * 1000};
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        timerfd_settime(timer, 0, &(struct itimerspec){each, each}, NULL);
        epoll_ctl(ep, EPOLL_CTL_ADD, timer, &e);
    }

    start = now();
    double from = 0, end = 0, own = 0, theirs = 0, at = start;
    int ready = 0, done = 0, timing = 0, over = 0;
    size_t asked = 0, timed = 0;
    struct epoll_event events[1024];
    for (int i = 0; i < n; i++) {
        if (conns[i].phase == READY) ready++;
        else ask(&conns[i], now());
    }
    while (done < n) {
        if (ready == n) { /* all have done what comes before: the load begins */
            ready = 0;
            from = now() + warmup;
            end = from + seconds;
            long round = 0;
            for (int k = 0; k < nrounds; k++) round += rounds[k].times;
            for (int i = 0; i < n; i++) {
                enter(&conns[i], ROUND);
                for (long skip = spread ? round * i / n : 0; skip > 0; skip--) advance(&conns[i]);
                if (!micros) ask(&conns[i], now());
            }
        }
        int got = epoll_wait(ep, events, 1024, SILENCE_MS);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) die("epoll_wait");
        if (got == 0) { fprintf(stderr, "no reply for %d s\n", SILENCE_MS / 1000); return 1; }
        at = now();
        if (end && !timing && at >= from) { timing = 1; own = own_cpu(); theirs = cpu_of(pid); }
        if (end && !over && at >= end) { over = 1; own = own_cpu() - own; theirs = cpu_of(pid) - theirs; }
        for (int i = 0; i < got; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timerfd");
                for (int k = 0; k < n; k++) {
                    struct conn *each = &conns[k];
                    if (each->waiting || each->phase != ROUND) continue;
                    if (!over) { ask(each, now()); continue; }
                    enter(each, AFTER);
                    if (each->phase == DONE) done++;
                    else ask(each, now());
                }
                continue;
            }
            ssize_t bytes = read(c->fd, c->reply + c->used, sizeof c->reply - c->used);
            if (bytes <= 0) { fprintf(stderr, "the server closed a connection\n"); return 1; }
            c->used += bytes;
            int k = c->waiting ? template_of(c) : 0;
            struct template *t = &templates[k];
            ssize_t length = c->waiting ? whole(t, c->reply, c->used) : -1;
            if (length == 0 && c->used < sizeof c->reply) continue;
            if (length != (ssize_t)c->used || is_error(c, k, length)) complain(c, c->waiting ? t->name : "nothing", c->used);
            c->used = c->waiting = 0;
            at = now();
            asked++;
            if (c->phase == ROUND && at >= from && at < end) {
                timed++;
                if (t->count < MAX_SAMPLES) t->samples[t->count++] = (at - c->sent) * 1e6;
            }
            if (c->phase == ROUND) {
                if (at >= end) enter(c, AFTER);
                else if (!advance(c)) c->place = 0;
            } else if (!advance(c)) {
                if (c->phase == BEFORE) { c->phase = READY; ready++; continue; }
                c->phase = DONE;
            }
            if (c->phase == DONE) { done++; continue; }
            if (c->phase != ROUND || !micros) ask(c, at);
        }
    }
    size_t all = 0;
    for (int k = 0; k < ntemplates; k++) all += templates[k].count;
    float *together = malloc(all ? all * sizeof *together : 1);
    all = 0;
    for (int k = 0; k < ntemplates; k++) {
        memcpy(together + all, templates[k].samples, templates[k].count * sizeof *together);
        all += templates[k].count;
    }
    printf("{\"connections\": %d, \"ops_per_s\": %.1f, \"asked\": %zu, \"load_cpu\": %.3f, \"server_cpu\": %.3f, ", n,
           timed / seconds, asked, own / seconds, theirs / seconds);
    print_latency(together, all);
    printf(", \"templates\": {");
    const char *comma = "";
    for (int k = 0; k < ntemplates; k++) {
        if (!templates[k].count) continue;
        const char *name = strrchr(templates[k].name, '/');
        printf("%s\"%s\": {", comma, name ? name + 1 : templates[k].name);
        print_latency(templates[k].samples, templates[k].count);
        printf("}");
        comma = ", ";
    }
    printf("}}\n");
    return 0;
}
