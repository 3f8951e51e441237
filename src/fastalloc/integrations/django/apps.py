"""The Django application: takes the options from settings, and registers the checks."""

from __future__ import annotations

import warnings

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import register

import fastalloc
from fastalloc.trackers import admin

from . import options
from .checks import check_settings


class FastallocConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """`INSTALLED_APPS = [..., "fastalloc.integrations.django"]`"""

    name = "fastalloc.integrations.django"
    label = "fastalloc"
    verbose_name = "fastalloc"

    def ready(self) -> None:
        """Hand FASTALLOC on as options, and start where it names a mode and nothing runs yet.

        A wrong option is not worth the service: the check fastalloc.W001 says what is wrong, and
        nothing of FASTALLOC is used.
        """
        register(check_settings)
        given = options.of_recorder(settings)
        try:
            fastalloc.configure(given)
            if "mode" in given and not fastalloc.status().active:
                fastalloc.start()
        except fastalloc.ConfigError as error:
            warnings.warn(f"FASTALLOC in settings is not used: {error}", stacklevel=1)
        if apps.is_installed("django.contrib.admin"):
            admin.breaker.call(admin.watch_boot)
