/* A fleet of stations and their CPMS in one process, cheap enough that the proxy between them is what is measured.
 *
 *   load CERTIFICATE KEY        (PEM; of the CPMS's TLS port)
 *
 * It first says `ready PLAIN_PORT TLS_PORT`: where its CPMS listens. Then it takes commands, one a line, and answers each in a line:
 *
 *   fleet N WINDOW PORT TLS PREFIX   connect N stations, at most WINDOW at once    -> seconds until all have their 101, failures
 *   cycle N WINDOW PORT TLS PREFIX   connect, boot, close, N times                 -> seconds, failures
 *   run E                            E CALLs in all, each station one at a time    -> seconds, failures
 *   pace RATE SECONDS                RATE CALLs a second, round the fleet          -> p50 and p99 in microseconds, failures
 *   close                            drop every station                            -> seconds, failures
 *
 * A station's fifty CALLs: 35 MeterValues of 600 to 900 bytes, 9 Heartbeats, 4 StatusNotifications, one StartTransaction, one
 * StopTransaction. It answers CALLs it is sent with an empty CALLRESULT. Every connection is reset, not closed, so that no port waits.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM 8192
#define PATIENCE_S 60.0

enum state { CONNECTING, GREETING, OPEN };

struct conn {
  int fd, number, cpms, have, left, seq, transaction, booting, want_write;
  long register_wh;
  enum state state;
  SSL *ssl;
  double sent_at;
  char in[ROOM];
};

static int poller, plain_listener, tls_listener, target, target_tls, cycling;
static long ready, failed, answered, transactions;
static SSL_CTX *client_tls, *server_tls;
static char prefix[200];
static struct conn **fleet;
static int fleet_size, next_station, goal, window;
static double *took;
static long took_most, took_count;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct conn *conn_new(int fd, int cpms, int tls) {
  struct conn *c = calloc(1, sizeof *c);
  int one = 1;
  if (!c) die("memory");
  c->fd = fd;
  c->cpms = cpms;
  fcntl(fd, F_SETFL, O_NONBLOCK);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (tls) {
    c->ssl = SSL_new(cpms ? server_tls : client_tls);
    SSL_set_fd(c->ssl, fd);
    if (cpms) SSL_set_accept_state(c->ssl);
    else SSL_set_connect_state(c->ssl);
  }
  return c;
}

static void watch(struct conn *c, int op, int write) {
  struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, op, c->fd, &e);
  c->want_write = write;
}

static void drop(struct conn *c) {
  struct linger l = {1, 0};
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
  if (c->ssl) SSL_free(c->ssl);
  close(c->fd);
  if (!c->cpms && fleet) fleet[c->number] = NULL;
  free(c);
}

static int put(struct conn *c, const char *data, int size) {
  int sent = c->ssl ? SSL_write(c->ssl, data, size) : (int)write(c->fd, data, size);
  return sent == size;
}

/* One text frame. A station's is masked. */
static int say(struct conn *c, char *text, int size) {
  static uint32_t key = 0x9e3779b9;
  char frame[ROOM + 16];
  int at = 0, masked = c->cpms ? 0 : 0x80;
  frame[at++] = (char)0x81;
  if (size < 126) frame[at++] = (char)(masked | size);
  else {
    frame[at++] = (char)(masked | 126);
    frame[at++] = (char)(size >> 8);
    frame[at++] = (char)size;
  }
  if (masked) {
    key = key * 1664525u + 1013904223u;
    char mask[4];
    memcpy(mask, &key, 4);
    memcpy(frame + at, mask, 4);
    at += 4;
    for (int i = 0; i < size; i++) frame[at + i] = text[i] ^ mask[i & 3];
  } else memcpy(frame + at, text, size);
  return put(c, frame, at + size);
}

/* The time as stations write it. A meter value of the past would be taken for one that was kept while offline. */
static const char *stamp(void) {
  static char text[40];
  static time_t last;
  struct timespec t;
  struct tm at;
  clock_gettime(CLOCK_REALTIME, &t);
  if (t.tv_sec != last) strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&t.tv_sec, &at));
  last = t.tv_sec;
  sprintf(text + 19, ".%03ldZ", t.tv_nsec / 1000000);
  return text;
}

static int meter_values(struct conn *c, char *text) {
  static const char *names[] = {"Power.Active.Import", "Current.Import", "Voltage"};
  static const char *units[] = {"W", "A", "V"};
  static const int values[] = {3680, 16, 230};
  c->register_wh += 61;
  int at = sprintf(text,
                   "[2,\"%d-%d\",\"MeterValues\",{\"connectorId\":1,\"transactionId\":%d,\"meterValue\":[{\"timestamp\":\"%s\",\"sampledValue\":"
                   "[{\"value\":\"%ld\",\"context\":\"Sample.Periodic\",\"measurand\":\"Energy.Active.Import.Register\",\"unit\":\"Wh\"}",
                   c->number, c->seq, c->transaction, stamp(), c->register_wh);
  int count = 5 + c->seq % 3;
  for (int k = 0; k < count; k++)
    at += sprintf(text + at, ",{\"value\":\"%d.%d\",\"measurand\":\"%s\",\"phase\":\"L%d\",\"unit\":\"%s\"}", values[k % 3], c->seq % 10,
                  names[k % 3], k / 3 + 1, units[k % 3]);
  return at + sprintf(text + at, "]}]}]");
}

static int status(struct conn *c, char *text, const char *what) {
  return sprintf(text,
                 "[2,\"%d-%d\",\"StatusNotification\",{\"connectorId\":1,\"errorCode\":\"NoError\",\"status\":\"%s\",\"timestamp\":\"%s\"}]",
                 c->number, c->seq, what, stamp());
}

static void call(struct conn *c) {
  char text[ROOM];
  int size, turn = (c->seq++ + c->number) % 50;
  if (c->booting)
    size = sprintf(text, "[2,\"%d-boot\",\"BootNotification\",{\"chargePointVendor\":\"Bench\",\"chargePointModel\":\"One\"}]", c->number);
  else if (turn == 0) size = status(c, text, "Preparing");
  else if (turn == 1)
    size = sprintf(text, "[2,\"%d-%d\",\"StartTransaction\",{\"connectorId\":1,\"idTag\":\"T%d\",\"meterStart\":%ld,\"timestamp\":\"%s\"}]",
                   c->number, c->seq, c->number, c->register_wh, stamp());
  else if (turn == 2) size = status(c, text, "Charging");
  else if (turn == 47) size = status(c, text, "Finishing");
  else if (turn == 48)
    size = sprintf(text, "[2,\"%d-%d\",\"StopTransaction\",{\"transactionId\":%d,\"meterStop\":%ld,\"timestamp\":\"%s\"}]", c->number,
                   c->seq, c->transaction, c->register_wh, stamp());
  else if (turn == 49) size = status(c, text, "Available");
  else if (turn % 5 == 0) size = sprintf(text, "[2,\"%d-%d\",\"Heartbeat\",{}]", c->number, c->seq);
  else size = meter_values(c, text);
  c->sent_at = now();
  if (!say(c, text, size)) failed++;
}

/* What the CPMS says to a CALL. */
static void answer(struct conn *c, char *text, int size) {
  char reply[400], *id = memchr(text, '"', size), *end = id ? memchr(id + 1, '"', size - (id + 1 - text)) : NULL;
  char *action = end ? memchr(end + 1, '"', size - (end + 1 - text)) : NULL;
  if (!action || text[1] != '2') return;
  int length = (int)(end - id + 1), at = sprintf(reply, "[3,%.*s,", length, id);
  if (!strncmp(action, "\"Start", 6))
    at += sprintf(reply + at, "{\"transactionId\":%ld,\"idTagInfo\":{\"status\":\"Accepted\"}}]", ++transactions);
  else if (!strncmp(action, "\"Boot", 5))
    at += sprintf(reply + at, "{\"currentTime\":\"%s\",\"interval\":300,\"status\":\"Accepted\"}]", stamp());
  else if (!strncmp(action, "\"Heart", 6)) at += sprintf(reply + at, "{\"currentTime\":\"%s\"}]", stamp());
  else if (!strncmp(action, "\"Stop", 5)) at += sprintf(reply + at, "{\"idTagInfo\":{\"status\":\"Accepted\"}}]");
  else at += sprintf(reply + at, "{}]");
  if (!say(c, reply, at)) failed++;
}

/* What a station does with a message: count its answer and go on, or answer. */
static void heard(struct conn *c, char *text, int size) {
  if (size > 5 && text[1] == '2') {
    char reply[200], *id = memchr(text, '"', size), *end = id ? memchr(id + 1, '"', size - (id + 1 - text)) : NULL;
    if (end && end - id < 100) say(c, reply, sprintf(reply, "[3,%.*s,{}]", (int)(end - id + 1), id));
    return;
  }
  char *started = memmem(text, size, "\"transactionId\":", 16);
  if (started) c->transaction = atoi(started + 16);
  answered++;
  if (took && took_count < took_most) took[took_count++] = now() - c->sent_at;
  c->sent_at = 0;
  if (c->left > 0 && --c->left > 0) call(c);
}

static void greet(struct conn *c) {
  char text[600];
  int size = sprintf(text,
                     "GET %s/S%d HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
                     "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n",
                     prefix, c->number);
  c->state = GREETING;
  put(c, text, size);
}

static void accept_key(struct conn *c, char *head) {
  char *key = strcasestr(head, "sec-websocket-key:");
  unsigned char text[100], sum[20], encoded[40];
  char reply[400];
  if (!key) return;
  key += 18;
  while (*key == ' ') key++;
  int size = sprintf((char *)text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
  SHA1(text, size, sum);
  EVP_EncodeBlock(encoded, sum, 20);
  size = sprintf(reply,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                 "Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n",
                 encoded);
  put(c, reply, size);
}

/* The HTTP part. Returns how much of the buffer it used; -1: refused. */
static int handshake(struct conn *c) {
  c->in[c->have] = 0;
  char *end = strstr(c->in, "\r\n\r\n");
  if (!end) return 0;
  if (c->cpms) accept_key(c, c->in);
  else if (!strstr(c->in, " 101 ")) return -1;
  c->state = OPEN;
  if (!c->cpms) {
    ready++;
    if (cycling) {
      c->booting = 1;
      c->left = 1;
      call(c);
      c->booting = 0;
    }
  }
  return (int)(end - c->in) + 4;
}

/* One frame. Returns how much of the buffer it used; 0: not whole. A good-bye is answered, and nothing said after it. */
static int frame(struct conn *c, char *in, int have) {
  if (have < 2) return 0;
  unsigned char *b = (unsigned char *)in;
  int size = b[1] & 0x7f, at = 2, masked = b[1] & 0x80, kind = b[0] & 0x0f;
  if (size == 126) {
    if (have < 4) return 0;
    size = b[2] << 8 | b[3];
    at = 4;
  }
  char *mask = in + at;
  if (masked) at += 4;
  if (have < at + size) return 0;
  if (masked)
    for (int i = 0; i < size; i++) in[at + i] ^= mask[i & 3];
  if (kind == 8) {
    put(c, c->cpms ? "\x88\x00" : "\x88\x80\0\0\0\0", c->cpms ? 2 : 6);
    shutdown(c->fd, SHUT_WR);
  }
  if (kind == 1 && c->cpms) answer(c, in + at, size);
  else if (kind == 1) heard(c, in + at, size);
  else if (kind == 9 && size < 100) {
    char pong[128];
    int head = 2;
    pong[0] = (char)0x8a;
    pong[1] = (char)(size | (c->cpms ? 0 : 0x80));
    if (!c->cpms) memset(pong + head, 0, 4), head += 4;
    memcpy(pong + head, in + at, size);
    put(c, pong, head + size);
  }
  return at + size;
}

/* Everything that is in the socket. Returns 0 when the connection is over. */
static int come(struct conn *c) {
  ERR_clear_error(); /* what another connection left in the queue would be taken for an error of this one */
  if (c->state == CONNECTING) {
    if (c->ssl) {
      int done = SSL_do_handshake(c->ssl);
      if (done != 1) {
        int why = SSL_get_error(c->ssl, done);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) return 0;
        if (c->want_write != (why == SSL_ERROR_WANT_WRITE)) watch(c, EPOLL_CTL_MOD, why == SSL_ERROR_WANT_WRITE);
        return 1;
      }
    }
    if (c->want_write) watch(c, EPOLL_CTL_MOD, 0);
    if (c->cpms) c->state = GREETING;
    else greet(c);
  }
  for (;;) {
    int room = ROOM - 1 - c->have, got = c->ssl ? SSL_read(c->ssl, c->in + c->have, room) : (int)read(c->fd, c->in + c->have, room);
    if (got <= 0) {
      if (c->ssl) return SSL_get_error(c->ssl, got) == SSL_ERROR_WANT_READ;
      return got < 0 && errno == EAGAIN;
    }
    c->have += got;
    int at = 0, used;
    if (c->state == GREETING) {
      at = handshake(c);
      if (at < 0) return 0;
    }
    while (c->state == OPEN && (used = frame(c, c->in + at, c->have - at)) > 0) at += used;
    memmove(c->in, c->in + at, c->have -= at);
    if (got < room && !c->ssl) return 1;
  }
}

static void accept_all(int listener) {
  int fd;
  while ((fd = accept(listener, NULL, NULL)) >= 0) {
    struct conn *c = conn_new(fd, 1, listener == tls_listener);
    if (!c->ssl) c->state = GREETING;
    watch(c, EPOLL_CTL_ADD, 0);
  }
}

static void dial(void) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(target), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct conn *c = conn_new(socket(AF_INET, SOCK_STREAM, 0), 0, target_tls);
  c->number = next_station++;
  c->register_wh = 20000 + c->number;
  fleet[c->number] = c;
  if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
    failed++;
    drop(c);
    return;
  }
  watch(c, EPOLL_CTL_ADD, 1);
}

static void turn(int wait_ms) {
  struct epoll_event events[512];
  int count = epoll_wait(poller, events, 512, wait_ms);
  for (int k = 0; k < count; k++) {
    struct conn *c = events[k].data.ptr;
    if ((void *)c == &plain_listener || (void *)c == &tls_listener) {
      accept_all(*(int *)c);
      continue;
    }
    int lives = come(c);
    if (!lives && !c->cpms) failed++;
    if (!lives || (cycling && !c->cpms && c->state == OPEN && !c->left)) drop(c);
  }
}

static void say_time(double began) {
  printf("%.6f %ld\n", now() - began, failed);
}

static void make_fleet(int count, int at_once, int cycle) {
  double began = now();
  long done;
  free(fleet);
  fleet = calloc(count, sizeof *fleet);
  fleet_size = goal = count;
  window = at_once;
  ready = failed = answered = next_station = 0;
  cycling = cycle;
  while ((done = (cycle ? answered : ready) + failed) < goal && now() - began < PATIENCE_S) {
    while (next_station < goal && next_station - done < window) dial();
    turn(10);
  }
  if (done < goal) failed += goal - done;
  cycling = 0;
  say_time(began);
}

static void run(long exchanges) {
  double began = now();
  long each = exchanges / fleet_size, alive = 0;
  failed = answered = 0;
  for (int n = 0; n < fleet_size; n++)
    if (fleet[n]) {
      alive++;
      fleet[n]->left = (int)each;
      call(fleet[n]);
    }
  /* Never asleep: to wake a sleeper is work of the kernel's that would be charged to the contestant that writes. */
  while (answered + failed < each * alive && now() - began < PATIENCE_S) turn(0);
  failed += each * alive - answered;
  say_time(began);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void pace(double rate, double seconds) {
  double began = now(), t;
  long sent = 0, most = (long)(rate * seconds), skipped = 0;
  took_most = most;
  took_count = failed = answered = 0;
  took = calloc(most + 1, sizeof *took);
  while ((t = now() - began) < seconds + 2 && took_count < most - skipped) {
    while (sent < most && sent < t * rate) {
      struct conn *c = fleet[sent++ % fleet_size];
      if (!c || c->sent_at > 0) skipped++;
      else c->left = 1, call(c);
    }
    turn(0);
  }
  qsort(took, took_count, sizeof *took, by_size);
  if (!took_count) printf("0 0 %ld\n", most);
  else printf("%.1f %.1f %ld\n", took[took_count / 2] * 1e6, took[took_count * 99 / 100] * 1e6, failed + most - took_count);
  free(took);
  took = NULL;
}

static int listen_on(int *listener) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = listener};
  *listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(*listener, (struct sockaddr *)&at, size) || listen(*listener, 4096)) die("listen");
  getsockname(*listener, (struct sockaddr *)&at, &size);
  epoll_ctl(poller, EPOLL_CTL_ADD, *listener, &e);
  return ntohs(at.sin_port);
}

/* Between commands connections that go are seen, and pings answered. */
static int next_command(char *line, int size) {
  fd_set set;
  for (;;) {
    struct timeval t = {0, 2000};
    FD_ZERO(&set);
    FD_SET(0, &set);
    if (select(1, &set, NULL, NULL, &t) > 0) return read(0, line, size - 1);
    turn(0);
  }
}

int main(int argc, char **argv) {
  struct rlimit files = {65536, 65536};
  char line[400];
  int size, count, at_once;
  if (argc != 3) return fprintf(stderr, "usage: load CERTIFICATE KEY\n"), 2;
  signal(SIGPIPE, SIG_IGN);
  setrlimit(RLIMIT_NOFILE, &files);
  setvbuf(stdout, NULL, _IOLBF, 0);
  client_tls = SSL_CTX_new(TLS_client_method());
  server_tls = SSL_CTX_new(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(server_tls, argv[1]) != 1 || SSL_CTX_use_PrivateKey_file(server_tls, argv[2], SSL_FILETYPE_PEM) != 1)
    return fprintf(stderr, "load: %s or %s is of no use\n", argv[1], argv[2]), 2;
  poller = epoll_create1(0);
  int plain = listen_on(&plain_listener);
  printf("ready %d %d\n", plain, listen_on(&tls_listener));
  while ((size = next_command(line, sizeof line)) > 0) {
    double rate, seconds;
    long exchanges;
    line[size] = 0;
    if (sscanf(line, "fleet %d %d %d %d %199s", &count, &at_once, &target, &target_tls, prefix) == 5) {
      if (!strcmp(prefix, "-")) prefix[0] = 0;
      make_fleet(count, at_once, 0);
    } else if (sscanf(line, "cycle %d %d %d %d %199s", &count, &at_once, &target, &target_tls, prefix) == 5) {
      if (!strcmp(prefix, "-")) prefix[0] = 0;
      make_fleet(count, at_once, 1);
    } else if (sscanf(line, "run %ld", &exchanges) == 1) run(exchanges);
    else if (sscanf(line, "pace %lf %lf", &rate, &seconds) == 2) pace(rate, seconds);
    else if (!strncmp(line, "close", 5)) {
      double began = now();
      failed = 0;
      for (int n = 0; n < fleet_size; n++)
        if (fleet[n]) drop(fleet[n]);
      say_time(began);
    } else printf("? %s", line);
  }
  return 0;
}
