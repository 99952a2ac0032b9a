/* An open-loop load generator for HTTP/1.1: it sends prepared requests at a constant rate.
 *
 *     pacer [-a ACCOUNT] HOST PORT CONNECTIONS RATE REQUESTS RECORDS [BODIES]
 *
 * Request number n is due at n / RATE seconds, whether the earlier ones are answered or not, and its latency
 * counts from then: a server that pauses is charged for everybody who had to wait (no coordinated omission).
 * A request that is due waits for a free connection; each connection has one request in flight. With RATE 0
 * every request is due at once, and the connections are kept busy.
 *
 * What keeps this program itself from working is not the server's: requests that were not due yet are then due
 * by so much later, instead of all at once. Those that had become due, or were under way, are charged in full.
 *
 * ACCOUNT is the kernel's account of the server, /proc/PID/schedstat. The time that the server was ready to run
 * and had no processor counts in the same way.
 *
 * REQUESTS holds the requests as they travel, each behind its length (32 bits, in the machine's order).
 * RECORDS gets a record for each, in their order: when it was due, sent and answered, in microseconds from the
 * first, and the status (0: the connection failed). BODIES gets the bodies of the answers, a line for each.
 * Standard output gets the clock (CLOCK_MONOTONIC, nanoseconds) of the first request, and the time in
 * microseconds that this program itself was kept from working: the longest at once, and in all. Then the same of
 * the server.
 *
 * From the first request on it never sleeps, for the sake of its timing: give it a core of its own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The server takes the connections before the first request is due: a rush of connections is another subject. */
#define ACCEPTED_US 50000
/* What has not been answered this long after the last request was due is given up. */
#define PATIENCE_NS 10000000000LL
/* The clock is read around every step, and the longest of them, sending and receiving, take a tenth of this.
 * Who reads it later had no processor. */
#define STANDSTILL_NS 250000LL
/* The kernel's account is read this often. A wait is in it when it is over, and those of two readings, a few
 * microseconds each, are far from a standstill. */
#define READING_NS 100000LL

struct record { uint32_t due, sent, done, status; };

struct connection {
    int socket;
    long request;           /* in flight, or -1 */
    size_t written;         /* bytes of the request */
    char *answer;
    size_t size, room;
};

static struct sockaddr_in address;
static char **requests;
static uint32_t *lengths;
static struct record *records;
static long count, answered;
static int64_t origin, last, longest, lost;    /* when the clock was read last; the standstills since origin */
static int account = -1;
static int64_t server_longest, server_lost;     /* those of the server; lost has them, too */
static int poller;
static FILE *bodies;
static struct connection *connections;
static long *idle, idle_first, idle_count, width;   /* a ring of connections, the longest idle first */

static void fail(const char *what) { perror(what); exit(1); }

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    int64_t now = time.tv_sec * 1000000000LL + time.tv_nsec, step = now - last;
    last = now;
    if (step > longest) longest = step;
    if (step > STANDSTILL_NS) lost += step;
    return now;
}

/* Whatever happened since the clock was read last was no standstill. */
static void begin_step(void) {
    int64_t before_longest = longest, before_lost = lost;
    now_ns();
    longest = before_longest;
    lost = before_lost;
}

/* How long the server has waited for a processor since it runs: the second number. */
static int64_t waited(void) {
    char text[128];
    ssize_t size = pread(account, text, sizeof text - 1, 0);
    if (size <= 0) fail("the account of the server");
    text[size] = 0;
    char *second = strchr(text, ' ');
    return second ? strtoll(second, NULL, 10) : 0;
}

/* Count the standstills of the server up to now. */
static void read_account(int64_t now) {
    static int64_t read, before, lost_before;
    if (account < 0 || now - read < READING_NS) return;
    int64_t wait = waited(), step = wait - before, own = lost - lost_before;
    if (read && step > STANDSTILL_NS) {
        if (step > server_longest) server_longest = step;
        server_lost += step;
        if (step > own) lost += step - own;             /* both may have stood still at the same time */
    }
    read = now;
    before = wait;
    lost_before = lost;
}

static uint32_t since_origin(void) { return (uint32_t)((now_ns() - origin) / 1000); }

static void rest(struct connection *c) {
    c->request = -1;
    c->size = 0;
    idle[(idle_first + idle_count++) % width] = c - connections;
}

static void dial(struct connection *c) {
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    c->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (c->socket < 0 || connect(c->socket, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->socket, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->socket, &event)) fail("epoll_ctl");
    rest(c);
}

static void finish(struct connection *c, uint32_t status) {
    records[c->request].done = since_origin();
    records[c->request].status = status;
    answered++;
}

static void lose(struct connection *c) {
    if (c->request >= 0) finish(c, 0);
    else {                                              /* it is among the idle ones: take it out */
        long kept = 0;
        for (long i = 0; i < idle_count; i++) {
            long each = idle[(idle_first + i) % width];
            if (each != c - connections) idle[(idle_first + kept++) % width] = each;
        }
        idle_count = kept;
    }
    close(c->socket);
    now_ns();
    dial(c);
    begin_step();                                       /* that took as long as the server let it wait */
}

static void drain(struct connection *c) {
    long n = c->request;
    while (c->written < lengths[n]) {
        ssize_t sent = send(c->socket, requests[n] + c->written, lengths[n] - c->written, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) { lose(c); return; }
            struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
            epoll_ctl(poller, EPOLL_CTL_MOD, c->socket, &event);
            return;
        }
        c->written += sent;
    }
}

static void begin(long n) {
    struct connection *c = connections + idle[idle_first];
    idle_first = (idle_first + 1) % width;
    idle_count--;
    c->request = n;
    c->written = 0;
    records[n].sent = since_origin();
    drain(c);
}

/* The length of the answer that stands in the buffer, or 0 while it is not complete. */
static size_t complete(struct connection *c, char **body) {
    char *end = memmem(c->answer, c->size, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t length = 0;
    for (char *line = memchr(c->answer, '\n', end - c->answer); line && line < end; line = memchr(line, '\n', end - line)) {
        line++;
        if (!strncasecmp(line, "content-length:", 15)) length = strtoul(line + 15, NULL, 10);
    }
    *body = end + 4;
    size_t whole = (end + 4 - c->answer) + length;
    return c->size >= whole ? whole : 0;
}

static void receive(struct connection *c) {
    for (;;) {
        if (c->room - c->size < 65536) {
            c->room = c->room * 2 + 131072;
            if (!(c->answer = realloc(c->answer, c->room))) fail("realloc");
        }
        ssize_t got = recv(c->socket, c->answer + c->size, c->room - c->size - 1, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) { lose(c); return; }
        c->size += got;
        c->answer[c->size] = 0;
        char *body;
        size_t whole = c->request < 0 ? 0 : complete(c, &body);
        if (whole) {
            finish(c, strtoul(c->answer + 9, NULL, 10));
            if (bodies) {
                fwrite(body, 1, c->answer + whole - body, bodies);
                fputc('\n', bodies);
            }
            rest(c);
            return;
        }
    }
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *all = malloc(size + 1);
    if (!all || fread(all, 1, size, file) != (size_t)size) fail(path);
    fclose(file);
    for (int filling = 0; filling < 2; filling++) {
        count = 0;
        for (long at = 0; at < size; count++) {
            uint32_t length;
            memcpy(&length, all + at, 4);
            if (filling) { requests[count] = all + at + 4; lengths[count] = length; }
            at += 4 + length;
        }
        if (!filling) {
            requests = calloc(count, sizeof *requests);
            lengths = calloc(count, sizeof *lengths);
            records = calloc(count, sizeof *records);
        }
    }
}

int main(int argc, char **argv) {
    if (argc > 2 && !strcmp(argv[1], "-a")) {
        if ((account = open(argv[2], O_RDONLY)) < 0) fail(argv[2]);
        argv += 2;
        argc -= 2;
    }
    if (argc < 7) {
        fprintf(stderr, "usage: pacer [-a ACCOUNT] HOST PORT CONNECTIONS RATE REQUESTS RECORDS [BODIES]\n");
        return 2;
    }
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argv[2]));
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) fail("HOST");
    width = atol(argv[3]);
    double rate = atof(argv[4]);
    load(argv[5]);
    if (argc > 7 && !(bodies = fopen(argv[7], "wb"))) fail(argv[7]);
    poller = epoll_create1(0);
    connections = calloc(width, sizeof *connections);
    idle = calloc(width, sizeof *idle);
    for (long i = 0; i < width; i++) dial(connections + i);
    usleep(ACCEPTED_US);

    struct epoll_event events[256];
    long next = 0, due = 0;                             /* the next one to be sent, and to become due */
    origin = now_ns();
    longest = lost = 0;
    read_account(origin);
    int64_t patience = origin + PATIENCE_NS;
    while (answered < count) {
        int64_t now = now_ns();
        read_account(now);
        if (due < count) patience = now + PATIENCE_NS;
        if (now > patience) break;
        if (rate <= 0) {
            for (; due < count && due - next < idle_count; due++) records[due].due = (uint32_t)((now - origin) / 1000);
        } else {
            for (int64_t at; due < count && origin + (at = (int64_t)(due / rate * 1e9) + lost) <= now; due++)
                records[due].due = (uint32_t)(at / 1000);
        }
        while (next < due && idle_count) begin(next++);
        int ready = epoll_wait(poller, events, 256, 0);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            now_ns();
            if (events[i].events & EPOLLOUT && c->request >= 0) {
                struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(poller, EPOLL_CTL_MOD, c->socket, &event);
                drain(c);
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
        }
    }
    FILE *file = fopen(argv[6], "wb");
    if (!file || fwrite(records, sizeof *records, count, file) != (size_t)count || fclose(file)) fail(argv[6]);
    if (bodies && fclose(bodies)) fail(argv[7]);
    printf("{\"clock\": %lld, \"longest standstill\": %lld, \"standstills\": %lld, "
           "\"longest of the server\": %lld, \"of the server\": %lld}\n",
           (long long)origin, (long long)longest / 1000, (long long)lost / 1000,
           (long long)server_longest / 1000, (long long)server_lost / 1000);
    return 0;
}
