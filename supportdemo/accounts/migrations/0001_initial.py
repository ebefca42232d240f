# Made by makemigrations.

from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Allowance',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('action', models.CharField(max_length=32)),
                ('subject', models.CharField(max_length=200)),
                ('window', models.BigIntegerField(help_text="Number of the window since 1970, in windows of the action's length.")),
                ('used', models.PositiveIntegerField(default=0)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('action', 'subject', 'window'), name='accounts_allowance_once')],
            },
        ),
    ]
