// SPDX-License-Identifier: GPL-2.0
/*
 * What other threads have the main thread do for them.
 *  1. mailbox_post(): leaves a letter; the main thread opens it in its loop.
 *  2. An errand is a letter whose sender waits until it is done.
 *  3. mailbox_service(): the main thread opens what is there; mailbox_wait()
 *     also waits for some, for when there is no loop any more.
 */
#include "vmm.h"

static struct {
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct letter *first;		/* [l] lock */
	struct letter **last;		/* [l] lock */
} box = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.some = PTHREAD_COND_INITIALIZER,
	.last = &box.first,
};

/* Any thread; @letter is the main thread's from here on. */
void mailbox_post(struct letter *letter)
{
	letter->next = NULL;
	pthread_mutex_lock(&box.lock);
	*box.last = letter;
	box.last = &letter->next;
	pthread_cond_signal(&box.some);
	pthread_mutex_unlock(&box.lock);
	loop_wake();
}

static void errand_opened(struct letter *letter)
{
	struct errand *e = container_of(letter, struct errand, letter);
	int ret = e->run(e);

	if (ret != ERRAND_WAITS)
		errand_end(e, ret);
}

int errand_run(int (*run)(struct errand *e), void *arg)
{
	struct errand e = {
		.letter.opened = errand_opened, .run = run, .arg = arg,
	};

	sem_init(&e.ended, 0, 0);
	mailbox_post(&e.letter);
	while (sem_wait(&e.ended))
		;
	sem_destroy(&e.ended);
	return e.ret;
}

void errand_end(struct errand *e, int ret)
{
	e->ret = ret;
	sem_post(&e->ended);
}

static struct letter *take(bool wait)
{
	struct letter *first;

	pthread_mutex_lock(&box.lock);
	while (wait && !box.first)
		pthread_cond_wait(&box.some, &box.lock);
	first = box.first;
	box.first = NULL;
	box.last = &box.first;
	pthread_mutex_unlock(&box.lock);
	return first;
}

static void open_all(struct letter *letter)
{
	struct letter *next;

	for (; letter; letter = next) {
		next = letter->next;
		letter->opened(letter);
	}
}

void mailbox_service(void)
{
	open_all(take(false));
}

void mailbox_wait(void)
{
	open_all(take(true));
}
