from django.db import migrations


class Migration(migrations.Migration):  # type: ignore[misc]
    dependencies = [("shop", "0001_initial")]  # noqa: RUF012

    operations = [  # noqa: RUF012
        migrations.CreateModel(
            name="WholeOrder",
            fields=[],
            options={"proxy": True, "indexes": [], "constraints": []},
            bases=("shop.order",),
        ),
    ]
