"""A library: authors, their books, and two managers that add to every query."""

from __future__ import annotations

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=40)


class Tag(models.Model):
    word = models.CharField(max_length=20)


class Printed(models.Manager):
    """Adds a filter, a join and a prefetch to every query."""

    def get_queryset(self):
        found = super().get_queryset().filter(is_printed=True)
        return found.select_related("author").prefetch_related("tags")


class Counting(models.Manager):
    """Runs a query of its own for every query."""

    def get_queryset(self):
        return super().get_queryset().filter(pages__lt=10 + Author.objects.count() * 0 + 10_000)


class Book(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    title = models.CharField(max_length=80)
    pages = models.IntegerField(default=100)
    is_printed = models.BooleanField(default=True)
    tags = models.ManyToManyField(Tag)

    objects = models.Manager()
    printed = Printed()
    counting = Counting()
