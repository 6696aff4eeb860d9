// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies how vCPUs are held (vmm/pause.c), with threads that stand for them: when a pause is complete none goes on, several
 * owners hold together, a vCPU that waits for the console counts as held, waiters and notifiers are told, one can wait until they have gone, a stop lets all go, a nap ends early,
 * and thousands of pauses and resumes lose no wake-up. Runs on any machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "../vmm/vmm.h"

#define CPUS	4

struct fake_cpu {
	struct kvm_run run;
	pthread_t thread;
	atomic_ulong instructions, parks;
	atomic_bool in_exit;	/* the next "exit" waits for the console */
};

static struct vm vm;
static struct vcpu vcpus[CPUS];
static struct fake_cpu cpus[CPUS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool woken, room;
static atomic_bool stopping;

/* What pause.c needs of the rest */

void loop_wake(void)
{
	pthread_mutex_lock(&lock);
	woken = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

bool vm_stopping(const struct vm *v)
{
	return atomic_load(&stopping);
}

void vcpu_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

/* The loop: services the pause at each wake-up until @until */
static void serve(bool (*until)(void))
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	while (!until()) {
		pthread_mutex_lock(&lock);
		while (!woken)
			ASSERT_EQ(pthread_cond_timedwait(&cond, &lock, &limit), 0);
		woken = false;
		pthread_mutex_unlock(&lock);
		pause_service(&vm);
	}
}

static bool is_paused(void)
{
	return vm_paused(&vm);
}

static void wait_for_room(void)
{
	pause_waiting(&vm, true);
	pthread_mutex_lock(&lock);
	while (!room)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	pause_waiting(&vm, false);
}

static void make_room(void)
{
	pthread_mutex_lock(&lock);
	room = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static void *cpu_loop(void *arg)
{
	struct fake_cpu *cpu = arg;

	while (!vm_stopping(&vm)) {
		/* KVM_RUN */
		if (__atomic_load_n(&cpu->run.immediate_exit, __ATOMIC_SEQ_CST)) {
			if (pause_park(&vm, &cpu->run.immediate_exit))
				atomic_fetch_add(&cpu->parks, 1);
			continue;
		}
		atomic_fetch_add(&cpu->instructions, 1);
		if (atomic_exchange(&cpu->in_exit, false))
			wait_for_room();
	}
	return NULL;
}

static void start(bool held)
{
	int i;

	vm.vcpus = vcpus;
	vm.nr_vcpus = CPUS;
	pause_init(&vm);
	for (i = 0; i < CPUS; i++)
		vcpus[i].run = &cpus[i].run;
	if (held)
		vm_pause(&vm, PAUSE_START);
	for (i = 0; i < CPUS; i++)
		ASSERT_EQ(pthread_create(&cpus[i].thread, NULL, cpu_loop, &cpus[i]), 0);
}

static void stop(void)
{
	int i;

	atomic_store(&stopping, true);
	for (i = 0; i < CPUS; i++)
		vcpu_kick(&vcpus[i]);
	pause_release(&vm);
	for (i = 0; i < CPUS; i++)
		ASSERT_EQ(pthread_join(cpus[i].thread, NULL), 0);
	pause_service(&vm);
	pause_fini(&vm);
}

static unsigned long executed(void)
{
	unsigned long sum = 0;
	int i;

	for (i = 0; i < CPUS; i++)
		sum += atomic_load(&cpus[i].instructions);
	return sum;
}

static void assert_still(void)
{
	unsigned long before = executed();

	usleep(2000);
	ASSERT_EQ(executed(), before);
}

static void assert_runs(void)
{
	int i, tries;

	for (i = 0; i < CPUS; i++) {
		unsigned long before = atomic_load(&cpus[i].instructions);

		for (tries = 0; atomic_load(&cpus[i].instructions) == before; tries++) {
			ASSERT_LT(tries, 10000);
			usleep(1000);
		}
	}
}

static void test_exact(void)
{
	int i;

	start(false);
	assert_runs();
	for (i = 0; i < 20; i++) {
		vm_pause(&vm, PAUSE_USER);
		serve(is_paused);
		assert_still();
		ASSERT_EQ(vm_resume(&vm, PAUSE_USER), 0);
		ASSERT(!vm_paused(&vm));
		assert_runs();
	}
	stop();
}

static void test_owners(void)
{
	start(false);
	vm_pause(&vm, PAUSE_USER);
	vm_pause(&vm, PAUSE_DISK);
	vm_pause(&vm, PAUSE_DISK);
	serve(is_paused);
	ASSERT_EQ(vm_resume(&vm, PAUSE_DISK), PAUSE_USER);
	ASSERT(vm_paused(&vm));
	assert_still();
	ASSERT_EQ(vm_resume(&vm, PAUSE_DISK), PAUSE_USER);
	ASSERT_EQ(vm_resume(&vm, PAUSE_USER | PAUSE_DISK), 0);
	ASSERT_EQ(vm_resume(&vm, PAUSE_USER), 0);
	assert_runs();
	stop();
}

/* None of them runs before it is let go the first time */
static void test_start_held(void)
{
	start(true);
	serve(is_paused);
	ASSERT_EQ(executed(), 0);
	assert_still();
	ASSERT_EQ(vm_resume(&vm, PAUSE_START), 0);
	assert_runs();
	stop();
}

static void test_await_go(void)
{
	int i;

	start(true);
	serve(is_paused);
	pause_await_go(&vm);		/* held: nothing to wait for */
	ASSERT_EQ(executed(), 0);
	for (i = 0; i < 200; i++) {
		ASSERT_EQ(vm_resume(&vm, PAUSE_START), 0);
		pause_await_go(&vm);
		ASSERT_EQ(vm.pause.held, 0);
		vm_pause(&vm, PAUSE_START);
		serve(is_paused);
	}
	stop();
}

static void test_console_waits(void)
{
	start(false);
	atomic_store(&cpus[1].in_exit, true);
	while (atomic_load(&cpus[1].in_exit))
		usleep(1000);
	vm_pause(&vm, PAUSE_USER);
	serve(is_paused);
	assert_still();
	/* It has waited, and parks without another instruction */
	make_room();
	usleep(10000);
	ASSERT(vm_paused(&vm));
	assert_still();
	ASSERT_EQ(vm_resume(&vm, PAUSE_USER), 0);
	assert_runs();
	stop();
}

static int waits_done, waits_paused, told_stop, told_run, hold_again;

static void wait_done(struct pause_wait *wait, bool paused)
{
	waits_done++;
	waits_paused += paused;
}

static void changed(struct run_notifier *n, bool running)
{
	if (!running) {
		told_stop++;
		ASSERT(vm_paused(&vm));
		return;
	}
	told_run++;
	if (hold_again) {
		hold_again--;
		vm_pause(&vm, PAUSE_DISK);
	}
}

static void test_told(void)
{
	struct pause_wait w[3] = { { .done = wait_done }, { .done = wait_done }, { .done = wait_done } };
	struct run_notifier n = { .changed = changed };

	start(false);
	vm_add_notifier(&vm, &n);
	vm_pause(&vm, PAUSE_USER);
	vm_when_paused(&vm, &w[0]);
	vm_when_paused(&vm, &w[1]);
	serve(is_paused);
	ASSERT_EQ(waits_done, 2);
	ASSERT_EQ(waits_paused, 2);
	ASSERT_EQ(told_stop, 1);
	vm_when_paused(&vm, &w[2]);
	ASSERT_EQ(waits_paused, 3);
	ASSERT_EQ(told_run, 0);
	/* A device that cannot go on yet: no vCPU runs in between */
	hold_again = 1;
	assert_still();
	ASSERT_EQ(vm_resume(&vm, PAUSE_USER), PAUSE_DISK);
	ASSERT_EQ(told_run, 1);
	assert_still();
	serve(is_paused);
	ASSERT_EQ(told_stop, 2);
	ASSERT_EQ(vm_resume(&vm, PAUSE_DISK), 0);
	ASSERT_EQ(told_run, 2);
	assert_runs();
	/* A pause that ends before it is complete */
	vm_pause(&vm, PAUSE_USER);
	vm_when_paused(&vm, &w[0]);
	ASSERT_EQ(vm_resume(&vm, PAUSE_USER), 0);
	ASSERT_EQ(waits_done, 4);
	ASSERT_EQ(waits_paused, 3);
	ASSERT_EQ(told_run, 3);
	assert_runs();
	/* A machine that ends meanwhile */
	vm_pause(&vm, PAUSE_USER);
	vm_when_paused(&vm, &w[0]);
	stop();
	ASSERT_EQ(waits_done, 5);
	ASSERT_EQ(waits_paused, 3);
}

static void test_stop_while_held(void)
{
	start(true);
	serve(is_paused);
	stop();
	ASSERT_EQ(executed(), 0);
}

static void test_many(void)
{
	int i;

	start(false);
	for (i = 0; i < 3000; i++) {
		vm_pause(&vm, PAUSE_USER);
		if (i % 3)
			serve(is_paused);
		ASSERT_EQ(vm_resume(&vm, PAUSE_USER), 0);
	}
	assert_runs();
	stop();
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void *nap(void *arg)
{
	pause_nap(&vm, 30000000);
	return NULL;
}

/* A throttled vCPU naps as long as it is told, but not when the machine is to be held */
static void test_nap(void)
{
	double begin = now_s();
	pthread_t thread;

	pause_init(&vm);
	pause_nap(&vm, 0);
	pause_nap(&vm, 30000);
	ASSERT(now_s() - begin >= 0.03);
	ASSERT_EQ(pthread_create(&thread, NULL, nap, NULL), 0);
	usleep(50000);
	begin = now_s();
	vm_pause(&vm, PAUSE_MOVE);
	pthread_join(thread, NULL);
	ASSERT(now_s() - begin < 10);
	pause_nap(&vm, 30000000);	/* held already */
	vm_resume(&vm, PAUSE_MOVE);
	pause_fini(&vm);
}

static const struct tap_test tests[] = {
	TEST(exact),
	TEST(owners),
	TEST(start_held),
	TEST(await_go),
	TEST(console_waits),
	TEST(told),
	TEST(stop_while_held),
	TEST(nap),
	TEST(many),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
