<?php
// PHPMailer, one message. The job comes as JSON; the last line tells how it went.
foreach (['Exception', 'PHPMailer', 'SMTP'] as $name) {
    require "/usr/share/php/libphp-phpmailer/src/$name.php";
}
$job = json_decode($argv[1]);
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
[$mail->Host, $mail->Port, $mail->Helo] = [$job->host, $job->port, $job->name];
[$mail->Subject, $mail->Body, $mail->MessageID] = ['hello', $job->body, $job->message_id];
$mail->setFrom($job->sender);
foreach ($job->recipients as $recipient) {
    $mail->addAddress($recipient);
}
try {
    $mail->send();
    echo "sent\n";
} catch (PHPMailer\PHPMailer\Exception $error) {
    echo $error->getMessage(), "\n";
    echo trim('Exception ' . $mail->getSMTPInstance()->getError()['smtp_code']), "\n";
}
