/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* A ring of links, embedded in what is listed: nothing is allocated, everything is O(1). */

#include <stdbool.h>
#include <stddef.h>

struct link {
	struct link *next;
	struct link *previous;
};

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

static inline void list_init(struct link *list)
{
	list->next = list;
	list->previous = list;
}

static inline bool list_is_empty(const struct link *list)
{
	return list->next == list;
}

/* The element stands in no list afterwards; removing it again is harmless. */
static inline void list_remove(struct link *element)
{
	element->previous->next = element->next;
	element->next->previous = element->previous;
	list_init(element);
}

static inline void list_append(struct link *list, struct link *element)
{
	element->previous = list->previous;
	element->next = list;
	list->previous->next = element;
	list->previous = element;
}

static inline void list_prepend(struct link *list, struct link *element)
{
	list_append(list->next, element);
}
