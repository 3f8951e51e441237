"""The URLconf that a middleware of django_served chooses."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("other/<str:name>/", lambda request, name: HttpResponse("other"))]
