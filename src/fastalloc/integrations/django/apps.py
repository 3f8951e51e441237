"""The Django application: takes the options from settings, and registers the checks."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import register

from . import options
from .checks import check_settings


class FastallocConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """`INSTALLED_APPS = [..., "fastalloc.integrations.django"]`"""

    name = "fastalloc.integrations.django"
    label = "fastalloc"
    verbose_name = "fastalloc"

    def ready(self) -> None:
        """Hand FASTALLOC on as options. What is wrong there, the check fastalloc.W001 says."""
        register(check_settings)
        options.hand_on(settings)
        if apps.is_installed("django.contrib.admin"):
            try:
                from fastalloc.trackers import admin
            except ImportError:  # there is no core, or it is not wanted
                return
            admin.breaker.call(admin.watch_boot)
