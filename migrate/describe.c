// SPDX-License-Identifier: GPL-2.0
/* A source's description of its machine, for those who may take it. */
#include <string.h>

#include "mig.h"

int send_facts(struct migrate *m, struct stream *s)
{
	struct migrate_facts *facts = migrate_facts_new();
	int err;

	err = facts ? m->ops->describe(m->vm, facts) : -ENOMEM;
	if (err)
		verdict(&m->verdict, err, "the machine's description: %s", strerror(-err));
	else
		err = facts_put(s, facts);
	migrate_facts_free(facts);
	return err;
}
