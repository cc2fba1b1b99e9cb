import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gateway", "0011_trials_of_breakers"),
        ("keys", "0006_lines_of_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="PostAnswer",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("key", models.CharField(max_length=255)),
                ("fingerprint", models.CharField(max_length=40)),
                ("request_id", models.CharField(max_length=32)),
                ("status", models.PositiveSmallIntegerField(null=True)),
                ("encrypted_body", models.TextField(null=True)),
                ("running_until_us", models.BigIntegerField(default=0)),
                ("expires_us", models.BigIntegerField(db_index=True)),
                (
                    "customer",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="keys.customer",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("customer", "key"), name="gateway_postanswer_once")],
            },
        ),
    ]
