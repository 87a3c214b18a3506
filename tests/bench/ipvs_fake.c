/* LD_PRELOAD shim: lets keepalived run its checkers where the kernel has no IPVS.
 *
 * The generic-netlink family "IPVS" is reported absent, so keepalived falls back to the socket
 * options, which are answered with success.  With IPVS_FAKE_LOG=FILE each change of a destination
 * is written as one line:   ADDDEST|DELDEST|EDITDEST ADDRESS:PORT WEIGHT
 *
 * gcc -O2 -shared -fPIC -o ipvs_fake.so ipvs_fake.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	BASE = 64 + 1024 + 64,	/* IP_VS_BASE_CTL */
	COUNT = 32,
	SERVICE_BYTES = 44,	/* struct ip_vs_service_user, which comes before the destination */
	ADDDEST = 7, DELDEST = 8, EDITDEST = 9,
};

struct nl_sock;

int genl_ctrl_resolve(struct nl_sock *sock, const char *name)
{
	(void)sock;
	(void)name;
	return -12;		/* NLE_OBJ_NOTFOUND */
}

static void report(int command, const unsigned char *data, socklen_t length)
{
	static int file = -2;
	static const char *const names[] = { "ADDDEST", "DELDEST", "EDITDEST" };
	const unsigned char *row = data + SERVICE_BYTES;
	char line[128];
	int weight, size;

	if (file == -2) {
		const char *path = getenv("IPVS_FAKE_LOG");
		file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
	}
	if (file < 0 || command < ADDDEST || command > EDITDEST || length < SERVICE_BYTES + 16)
		return;
	memcpy(&weight, row + 12, sizeof weight);	/* addr, port, conn_flags, weight */
	size = snprintf(line, sizeof line, "%s %u.%u.%u.%u:%u %d\n", names[command - ADDDEST],
			row[0], row[1], row[2], row[3], row[4] << 8 | row[5], weight);
	if (write(file, line, size) < 0)
		return;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	static int (*real)(int, int, int, const void *, socklen_t);

	if (!real)
		real = dlsym(RTLD_NEXT, "setsockopt");
	if (level == IPPROTO_IP && option >= BASE && option < BASE + COUNT) {
		report(option - BASE, value, length);
		return 0;
	}
	return real(fd, level, option, value, length);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	static int (*real)(int, int, int, void *, socklen_t *);

	if (!real)
		real = dlsym(RTLD_NEXT, "getsockopt");
	if (level == IPPROTO_IP && option >= BASE && option < BASE + COUNT) {
		if (value && length)
			memset(value, 0, *length);
		return 0;
	}
	return real(fd, level, option, value, length);
}
